"""What Kafka and the worker around vLLM cost: tokens per second and added latency, beside vLLM by itself."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.records import Request

from ..local.provision import CHAT_MODEL
from . import prompts
from .bare import BareVllm, Batch
from .harness import Bench, Goal, Say, percentiles
from .process import Process
from .rig import Rig, model_settings, rig
from .traffic import Replies, Seen, Tasks

MODELS = ("tiny", "smollm2")


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked in one round.

    Attributes:
        together: requests asked at once, many times what the engine answers at the same time.
        alone: requests asked one after the other.
        max_tokens: of each answer.
    """

    together: int
    alone: int
    max_tokens: int


# Some 15 s a round on two cores.
_LOADS = {"tiny": Load(together=192, alone=20, max_tokens=64), "smollm2": Load(together=64, alone=8, max_tokens=32)}

_STAMP = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) "
_STEPS = {"loading the model": "loading ", "model loaded": "loaded ", "serving": "ready: "}
"""What the worker logs as it starts, by what it means."""


@contextmanager
def bench(model: str, engine_cores: int | None, say: Say) -> Iterator[Bench]:
    """Bare vLLM and a worker side by side, asked the same.

    Args:
        model: one of ``MODELS``.
        engine_cores: how many cores both engines compute on; None: all.
    """
    load = _LOADS[model]
    with rig(say, engine_cores) as it:
        config = it.installation(**settings(it, model))
        say("loading the model into bare vLLM (a minute or two)")
        bare = start_bare(it, config)
        tasks = Tasks(config)
        with Replies(config) as replies:
            first = prompts.asked(prompts.questions(1, seed=0), max_tokens=1)
            tasks.send(first)  # it waits for the worker, so that its reply ends the start-up
            worker = it.worker(config)
            (seen,) = replies.take((first[0].request_id,), worker.check).values()
            facts = start_up(worker, seen) | {
                "bare vLLM, vLLM imported": f"{bare.loaded.import_s:.1f} s",
                "bare vLLM, model loaded": f"{bare.loaded.import_s + bare.loaded.load_s:.1f} s",
            }
            yield Bench(
                sides={
                    "bare vLLM": BareSide(bare, load).measure,
                    "worker": WorkerSide(tasks, replies, worker, load).measure,
                },
                goals=(Goal(side="worker", metric="tokens_per_s", at_least=0.95),),
                facts=facts,
            )


def settings(it: Rig, model: str, **engine: Any) -> dict[str, Any]:
    """The sections of the configuration for one of ``MODELS``; ``engine`` are more arguments of vLLM's."""
    engine = {"max_model_len": 2048, "max_num_seqs": 16, **engine}
    if model == "smollm2":
        return model_settings(CHAT_MODEL, **engine)
    return model_settings(str(_tiny_model(it)), **{"dtype": "float32", **engine})


def _tiny_model(it: Rig) -> Path:
    """Make the small model of random weights, in a process of its own: torch would stay in this one."""
    folder = it.home.root / "tiny"
    code = "import pathlib, sys; from forebay_ops.local.tiny_model import make_tiny_model as make"
    making = it.process("tiny model", [sys.executable, "-c", f"{code}; make(pathlib.Path(sys.argv[1]))", str(folder)])
    if making.popen.wait():
        raise making.failed("could not be made")
    return folder


def start_bare(it: Rig, config: Config) -> BareVllm:
    """Start vLLM by itself with the engine's arguments of the configuration and a worker's environment."""
    command = [sys.executable, "-m", "forebay_ops.bench.bare", str(it.write(config))]
    return BareVllm(it.process("bare vLLM", command, it.worker_environment(config), piped=True))


class BareSide:
    """Bare vLLM."""

    def __init__(self, bare: BareVllm, load: Load) -> None:
        self._bare = bare
        self._load = load
        self._round = 0

    def measure(self) -> dict[str, float]:
        together, alone = _round(self._round, self._load)
        self._round += 1
        all_at_once = self._bare.answer(_batch(together, self._load))
        one_by_one = self._bare.answer(_batch(alone, self._load, one_by_one=True))
        return {
            "tokens_per_s": all_at_once.tokens / sum(all_at_once.seconds),
            **percentiles((seconds * 1000 for seconds in one_by_one.seconds), "alone_"),
        }


class WorkerSide:
    """A worker behind Kafka."""

    def __init__(self, tasks: Tasks, replies: Replies, worker: Process, load: Load) -> None:
        self._tasks = tasks
        self._replies = replies
        self._worker = worker
        self._load = load
        self._round = 0

    def measure(self) -> dict[str, float]:
        together, alone = _round(self._round, self._load)
        self._round += 1
        return self._all_at_once(together) | self._one_by_one(alone)

    def _all_at_once(self, requests: list[Request]) -> dict[str, float]:
        began = time.monotonic()
        self._tasks.send(requests)
        seen = self._take(requests)
        tokens = sum(one.reply.usage.completion_tokens for one in seen)
        return {"tokens_per_s": tokens / (max(one.seen_s for one in seen) - began)}

    def _one_by_one(self, requests: list[Request]) -> dict[str, float]:
        whole, added = [], []
        for request in requests:
            began = time.monotonic()
            self._tasks.send([request])
            (one,) = self._take([request])
            whole.append((one.seen_s - began) * 1000)
            added.append(whole[-1] - one.reply.latency.generation_ms)
        return percentiles(whole, "alone_") | percentiles(added, "added_")

    def _take(self, requests: list[Request]) -> list[Seen]:
        return list(self._replies.take((request.request_id for request in requests), self._worker.check).values())


def start_up(worker: Process, first: Seen) -> dict[str, str | float]:
    """When a worker had done each step of its start: seconds since its process began."""
    facts: dict[str, str | float] = {}
    lines = worker.log.read_text(errors="replace").splitlines()
    for step, text in _STEPS.items():
        stamps = [match for line in lines if (match := re.match(_STAMP, line)) and f": {text}" in line]
        if stamps:
            at = datetime.strptime(stamps[0][1], "%Y-%m-%d %H:%M:%S").timestamp() + int(stamps[0][2]) / 1000
            facts[f"worker, {step}"] = f"{at - worker.began:.1f} s"
    first_s = time.time() - (time.monotonic() - first.seen_s)
    return facts | {"worker, first reply": f"{first_s - worker.began:.1f} s"}


def _round(number: int, load: Load) -> tuple[list[Request], list[Request]]:
    """What both sides are asked in one round. Never the same twice: prompts would be in the prefix cache."""
    texts = prompts.questions(load.together + load.alone, seed=number + 1)
    requests = prompts.asked(texts, max_tokens=load.max_tokens)
    return requests[: load.together], requests[load.together :]


def _batch(requests: list[Request], load: Load, one_by_one: bool = False) -> Batch:
    turns = [
        [
            {"role": message.role, "content": message.content or ""}
            for message in [*request.static_messages, *request.messages]
        ]
        for request in requests
    ]
    return Batch(turns, load.max_tokens, one_by_one)
