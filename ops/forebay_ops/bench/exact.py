"""Exact hits, from the request topic to the reply topic, beside a Flink job whose one function does nothing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Request

from . import prompts
from .deck import deck
from .filling import as_long, fill
from .harness import Bench, Goal, Say, Start
from .hit import steps_us
from .load import Load, cpu_s
from .rig import Rig, rig, synthetic_settings

IDENTITY, EXACT, GENTLE = "identity", "exact hits", "exact hits, gently"
DISTINCT = 10_000
AT_ONCE = 25_000
"""Some 15 s of work."""
_LASTING_S = 8.0
_GENTLE_PER_S = 1_000.0
"""A rate that two cores carry with everything else on them."""
_LEAST_OF_IDENTITY = 0.7
_SEED_PER_S = 8_500.0
"""What this project's first version was said to reach."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the pipelines, and the load on it."""

    it: Rig
    load: Load
    config: Config
    requests: Sequence[Request]

    def saturated(self) -> dict[str, float]:
        """With more requests waiting than it can take."""
        used_s = cpu_s(self.it)
        run = self.load.run(AT_ONCE)
        return {
            "requests_per_s": run.requests_per_s,
            "cpu_ms_per_request": (cpu_s(self.it) - used_s) * 1000 / AT_ONCE,
            "reply_bytes": run.mean_bytes,
            **({} if run.lookup_ms is None else {"lookup_ms": run.lookup_ms}),
        }

    def steady(self, rate_per_s: float, prefix: str = "") -> dict[str, float]:
        """Latency at a rate."""
        run = self.load.run(round(rate_per_s * _LASTING_S), rate_per_s)
        return {**run.percentiles(prefix), f"{prefix}sent_late_ms": run.late_ms}


@contextmanager
def both(say: Say) -> Iterator[Mapping[str, Start]]:
    """The two on the same pipelines, one after the other."""
    with _pipelines(say) as (identity, exact):
        yield {
            "exact": lambda say: nullcontext(_throughput(identity, exact, say)),
            "exact-latency": lambda say: nullcontext(_latency(identity, exact, say)),
        }


def _throughput(identity: Side, exact: Side, say: Say) -> Bench:
    say("taking a hit apart")
    steps = {f"{name}, us of a core": us for name, us in steps_us(exact.config, exact.requests).items()}
    return Bench(
        sides={IDENTITY: identity.saturated, EXACT: exact.saturated},
        goals=(
            Goal(side=EXACT, metric="requests_per_s", at_least=_LEAST_OF_IDENTITY),
            Goal(side=EXACT, metric="requests_per_s", at_least=_SEED_PER_S, of="figure"),
        ),
        facts={"distinct prompts": f"{DISTINCT:,}", "requests at once": f"{AT_ONCE:,}", **steps},
        processes=exact.it.processes,
    )


def _latency(identity: Side, exact: Side, say: Say) -> Bench:
    say("looking how many a second there are at most")
    exact.saturated()
    rate_per_s = exact.saturated()["requests_per_s"] / 2
    return Bench(
        sides={
            IDENTITY: lambda: identity.steady(rate_per_s),
            EXACT: lambda: exact.steady(rate_per_s),
            GENTLE: lambda: exact.steady(_GENTLE_PER_S, "gentle_"),
        },
        goals=(
            Goal(side=EXACT, metric="p50_ms", at_most=1, of="difference"),
            Goal(side=EXACT, metric="p99_ms", at_most=1.5),
            Goal(side=GENTLE, metric="gentle_p50_ms", at_most=8, of="figure"),
            Goal(side=GENTLE, metric="gentle_p95_ms", at_most=15, of="figure"),
            Goal(side=GENTLE, metric="gentle_p99_ms", at_most=125, of="figure"),
        ),
        facts={"requests a second": rate_per_s, "at saturation": rate_per_s * 2, "gently": _GENTLE_PER_S},
        processes=exact.it.processes,
    )


@contextmanager
def _pipelines(say: Say) -> Iterator[tuple[Side, Side]]:
    """The identity pipeline and the job, each in a TaskManager of its own; the job knows every answer."""
    with rig(say, also=("redis", "flink"), task_managers=2) as it:
        echoing = it.installation(**synthetic_settings())
        wait_for_identity = it.identity(echoing)
        config = it.installation(**synthetic_settings())
        requests = prompts.asked(prompts.reusable(DISTINCT, seed=1))
        texts = [as_long(request, number, config) for number, request in enumerate(requests)]
        say(f"keeping {DISTINCT:,} answers")
        fill(config, requests, texts)
        config = it.job(config)
        wait_for_identity()
        echo = Load(it, echoing, deck(requests, [None] * DISTINCT, echoed=True))
        hits = Load(it, config, deck(requests, texts), statuses=[CacheStatus.EXACT])
        yield Side(it, echo, echoing, requests), Side(it, hits, config, requests)
