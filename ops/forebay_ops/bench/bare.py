"""vLLM by itself, without Kafka and without a worker: the baseline of ``forebay bench worker``.

``python -m forebay_ops.bench.bare CONFIG`` loads the model of the tier ``only`` and answers lines of JSON: a batch of
conversations in, what it took out.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from forebay_schemas.config import load_config

from .pipes import Answers
from .process import Process


class Batch(msgspec.Struct, frozen=True):
    """Conversations to be answered, all together or one after the other."""

    conversations: list[list[dict[str, str]]]
    max_tokens: int
    one_by_one: bool = False


class Taken(msgspec.Struct, frozen=True):
    """What a batch took.

    Attributes:
        seconds: of the whole batch, or of each conversation.
        tokens: generated in all.
    """

    seconds: list[float]
    tokens: int


class Loaded(msgspec.Struct, frozen=True):
    """What the start took: importing vLLM, and loading the model into its engine."""

    import_s: float
    load_s: float


class BareVllm:
    """The other end of the process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.loaded = process.hear(Loaded)

    def answer(self, batch: Batch) -> Taken:
        """Have a batch answered."""
        self._process.tell(batch)
        return self._process.hear(Taken)


def main(file: Path) -> None:
    answers = Answers()  # made first: vLLM writes its log to standard output
    config = load_config(file)
    model = config.models[config.tiers["only"].model]
    began = time.monotonic()
    from vllm import LLM

    imported = time.monotonic()
    engine = LLM(model=model.weights or "", **model.engine)
    answers.tell(Loaded(imported - began, time.monotonic() - imported))
    answers.serve(Batch, lambda batch: _answered(engine, batch))


def _answered(engine: Any, batch: Batch) -> Taken:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(max_tokens=batch.max_tokens, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY)
    template = engine.get_tokenizer().apply_chat_template
    # Not timed, although a worker does it too: the baseline is generation and nothing else.
    prompts = [template(turns, add_generation_prompt=True, tokenize=False) for turns in batch.conversations]
    seconds, tokens = [], 0
    for together in [[prompt] for prompt in prompts] if batch.one_by_one else [prompts]:
        began = time.monotonic()
        outputs: Sequence[Any] = engine.generate(together, params, use_tqdm=False)
        seconds.append(time.monotonic() - began)
        tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
    return Taken(seconds, tokens)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
