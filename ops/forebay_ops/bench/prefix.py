"""How much of the prompts is read from the prefix cache, when requests of one static prefix meet at one worker."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from forebay_schemas.canonical import digests
from forebay_schemas.config import Config
from forebay_schemas.records import Request
from forebay_schemas.topics import task_key

from . import prompts
from .harness import Bench, Goal, Say, percentiles
from .process import Process
from .rig import rig
from .traffic import Replies, Tasks, paced
from .worker import settings

LEAST_CACHED = 0.6

_WORKERS = 2
_PREFIXES = 12
_QUESTIONS = 8
"""Of each prefix."""
_PREFIX_WORDS = {"tiny": 110, "smollm2": 420}
"""By model: more than 500 tokens each; the tiny model takes every letter for a token."""
_RATE_PER_S = 6.0
_MAX_TOKENS = 8
_SHORT = (
    "How long is delivery?",
    "Where is my parcel?",
    "Can I pay by invoice?",
    "Is the seal covered?",
    "Do you ship to Basel?",
    "What does E4 mean?",
    "Which hose fits?",
    "How do I send it back?",
)


@contextmanager
def bench(model: str, say: Say) -> Iterator[Bench]:
    """Two workers, asked under many system prompts, with the tasks spread at random or by their prefix."""
    with rig(say) as it:
        config = it.installation(kafka={"partitions": 16}, **settings(it, model))
        workers = [it.worker(config, number, _WORKERS) for number in range(_WORKERS)]
        with Replies(config) as replies:
            prefixes = Prefixes(config, replies, workers, _PREFIX_WORDS[model])
            yield Bench(
                sides={
                    "at random": lambda: prefixes.measure(affinity=False),
                    "by prefix": lambda: prefixes.measure(affinity=True),
                },
                goals=(Goal(side="by prefix", metric="cached_share", at_least=LEAST_CACHED, of="figure"),),
            )


class Prefixes:
    """The load. No system prompt is used in two measurements: it would be cached from the first."""

    def __init__(self, config: Config, replies: Replies, workers: list[Process], words: int) -> None:
        self._tasks = Tasks(config)
        self._replies = replies
        self._workers = workers
        self._systems = (prompts.handbook(words, seed) for seed in range(1_000_000))

    def measure(self, affinity: bool) -> dict[str, float]:
        """Ask every question under every system prompt, in mixed order at a steady rate."""
        systems = [next(self._systems) for _ in range(_PREFIXES)]
        requests = [
            request
            for system in systems
            for request in prompts.asked(_SHORT[:_QUESTIONS], system, max_tokens=_MAX_TOKENS)
        ]
        random.Random(0).shuffle(requests)
        due = paced(_RATE_PER_S, (lambda request=request: self._send(request, affinity) for request in requests))
        seen = self._replies.take([request.request_id for request in requests], self._check)
        usages = [one.reply.usage for one in seen.values()]
        prompt = sum(usage.prompt_tokens for usage in usages)
        waits = [(seen[request.request_id].seen_s - at) * 1000 for request, at in zip(requests, due, strict=True)]
        return {
            "cached_share": sum(usage.cached_prompt_tokens for usage in usages) / prompt,
            "prompt_tokens": prompt / len(usages),
            **percentiles(waits),
        }

    def _send(self, request: Request, affinity: bool) -> None:
        key = task_key(digests(request).prefix, request.request_id) if affinity else request.request_id
        self._tasks.send([request], key=key)

    def _check(self) -> None:
        for worker in self._workers:
            worker.check()
