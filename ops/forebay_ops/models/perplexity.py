"""How well a model foretells a text, by the probabilities that vLLM gives to the tokens of a prompt."""

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.tiers import ModelConfig
from forebay_workers.parent import mark_worker

from .jobs import Perplexity

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput

_WINDOW_TOKENS = 1024
"""The text is read in pieces of so many tokens, or as many as the model takes: the probabilities of one piece are a
table of tokens x vocabulary, half a GiB of it here."""
_WINDOWS_AT_ONCE = 16
_LEAST_TOKENS = 100


class TextTooShort(ForebayError):
    """The text says nothing about a model."""


def measure_perplexity(name: str, model: ModelConfig, text: str, doing: Callable[[str], None]) -> Perplexity:
    """The perplexity of a text: e to the mean negative log probability of its tokens.

    The text is cut into windows without overlap, and the first token of each is given, not foretold.

    Raises:
        ConfigError: the model cannot be loaded.
        TextTooShort: the text has too few tokens.
    """
    doing("loading for perplexity")
    llm = _load(name, model)
    from vllm import SamplingParams, TokensPrompt

    tokenizer = llm.get_tokenizer()
    tokens = tokenizer.encode(text, add_special_tokens=False)
    if len(tokens) < _LEAST_TOKENS:
        raise TextTooShort(f"the text has {len(tokens)} tokens for {name}; give one of at least {_LEAST_TOKENS}")
    start = tokenizer.encode("")  # such as <s>, without which some models foretell nothing well
    size = min(_WINDOW_TOKENS, llm.model_config.max_model_len - 1 - len(start))
    windows = [tokens[at : at + size] for at in range(0, len(tokens), size)]
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
    loss, count = 0.0, 0
    for at in range(0, len(windows), _WINDOWS_AT_ONCE):
        doing(f"foretelling the text, piece {at + 1} of {len(windows)}")
        some = windows[at : at + _WINDOWS_AT_ONCE]
        prompts = [TokensPrompt(prompt_token_ids=[*start, *window]) for window in some]
        for output in llm.generate(prompts, params, use_tqdm=False):
            values = _log_probabilities(output, len(start) + 1)
            loss, count = loss - math.fsum(values), count + len(values)
    return Perplexity(math.exp(loss / count), count)


def _load(name: str, model: ModelConfig) -> "LLM":
    mark_worker()
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    assert model.weights is not None, "perplexity is asked of vllm's models only"
    try:
        from vllm import LLM

        return LLM(model=model.weights, **model.engine)
    except (ImportError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise ConfigError(f"models.{name}: vLLM cannot load {model.weights} ({error})") from error


def _log_probabilities(output: "RequestOutput", given: int) -> Sequence[float]:
    """Of the tokens of a prompt behind the ones that are given."""
    ids, found = output.prompt_token_ids or [], output.prompt_logprobs or []
    return [
        table[token].logprob for token, table in zip(ids[given:], list(found)[given:], strict=True) if table is not None
    ]
