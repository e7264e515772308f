"""From a rate, and what a request costs, to how much of everything: pure arithmetic, each figure with its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from forebay_jobs.buckets import MAX_PARALLELISM

from .costs import Cost, Costs

TASKMANAGER_GIB = 5.0
"""Of ops/kubernetes/base/job.yaml: a process of 4 GiB and the room beyond it."""
VECTOR_BYTES = 384
"""Of a question in the index: one byte for each dimension of all-MiniLM-L6-v2. The whole vectors lie on disk."""
INDEX_OVERHEAD = 1.5
"""By which Qdrant multiplies the memory of its vectors, for graph and bookkeeping, where it says how to plan."""


@dataclass(frozen=True, slots=True)
class TierLoad:
    """One tier's part of what is generated.

    Attributes:
        share: of the generated answers.
        tokens: of an answer, on average.
        tokens_per_s: that one worker generates in all, measured with many answers at once.
    """

    share: float
    tokens: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked, at the hour that counts.

    Attributes:
        rate_per_s: requests a second, replies to all of which are wanted.
        exact, semantic: share of them that the caches answer, word for word and by meaning.
        tiers: by name; empty where how many workers it takes is not asked.
        answer_ttl_s: how long an answer is kept, 24 h by default like ``categories.<name>.exact_ttl_s``.
        seen_ttl_s: how long a request's id is, ``redis.seen_ttl_s``.
    """

    rate_per_s: float
    exact: float
    semantic: float
    tiers: dict[str, TierLoad] = field(default_factory=dict)
    answer_ttl_s: float = 86_400.0
    seen_ttl_s: float = 600.0

    @property
    def miss(self) -> float:
        return 1 - self.exact - self.semantic


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far things may be driven.

    Attributes:
        utilisation: share of a core, or of a worker, that may be busy; the rest is for peaks, restarts and catching up.
        replication: copies of each record in Kafka.
        retention_h: hours that Kafka keeps them.
        partition_bytes_per_s: written to one partition at most.
        lookup_cpu_ms: of the semantic index for one question. As measured: 1,089 a second on two cores, of 100,000
            questions with a graph over int8 vectors (docs/benchmarks.md).
        index_entries: questions that one installation keeps, ``semantic.max_entries``.
    """

    utilisation: float = 0.6
    replication: int = 3
    retention_h: float = 72.0
    partition_bytes_per_s: float = 5e6
    lookup_cpu_ms: float = 2000 / 1089
    index_entries: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, and how it comes about."""

    name: str
    value: str
    how: str


def size(load: Load, costs: Costs, limits: Limits) -> list[Row]:
    """Everything that the load takes, in the order of a request's way."""
    job, kafka, redis, worker, ledger = (
        _busy(load, costs, f"{part}_cpu_ms") for part in ("job", "kafka", "redis", "worker", "ledger")
    )
    managers = _whole(job.cores, limits.utilisation)
    installations = max(math.ceil(managers / MAX_PARALLELISM), _whole(ledger.cores, limits.utilisation))
    least = _Workers(
        _whole(worker.cores, limits.utilisation), f"{worker.how} / {limits.utilisation:g}, beside their models"
    )
    workers = {name: _workers(load, tier, limits) for name, tier in load.tiers.items()}
    readers = {"slots": managers, "workers": least.count}
    readers |= {f"workers of {name}": found.count for name, found in workers.items()}
    return [
        *_job(job, managers, limits),
        *_installations(ledger, managers, installations, limits),
        *_kafka(load, costs, limits, kafka, installations, readers),
        *_redis(load, costs, limits, redis),
        *_index(load, limits, installations),
        Row("generated", f"{_number(load.rate_per_s * load.miss)}/s", f"{_per_s(load)} x {load.miss:.3g}"),
        Row("workers at least", _number(least.count), least.how),
        *(Row(f"workers of {name}", _number(found.count), found.how) for name, found in workers.items()),
    ]


def _job(job: "_Busy", managers: int, limits: Limits) -> Iterator[Row]:
    yield Row("job: cores busy", _number(job.cores), job.how)
    how = f"{_number(job.cores)} / {limits.utilisation:g}; each {job.cores / managers:.0%} busy"
    yield Row("TaskManagers of one slot", _number(managers), how)
    memory = f"{_number(managers * TASKMANAGER_GIB)} GiB"
    yield Row("memory of TaskManagers", memory, f"{_number(managers)} x {TASKMANAGER_GIB:g} GiB")


def _installations(ledger: "_Busy", managers: int, installations: int, limits: Limits) -> Iterator[Row]:
    yield Row("ledger: cores busy", _number(ledger.cores), ledger.how)
    of_ledger = f"{_number(ledger.cores)} / {limits.utilisation:g} of one ledger each"
    of_job = f"{_number(managers)} slots / {MAX_PARALLELISM}"
    yield Row("installations", _number(installations), f"the most of {of_job}, {of_ledger}")


def _kafka(
    load: Load,
    costs: Costs,
    limits: Limits,
    kafka: "_Busy",
    installations: int,
    readers: dict[str, int],
) -> Iterator[Row]:
    written = load.rate_per_s * _mean(load, costs, "kafka_bytes")
    each = written / installations
    by_bytes = math.ceil(each / limits.partition_bytes_per_s)
    needs = {f"{_bytes(each)}/s / {_bytes(limits.partition_bytes_per_s)}/s": by_bytes}
    for name, count in readers.items():
        needs[f"{_number(count)} / {installations} {name}"] = math.ceil(count / installations)
    yield Row("partitions of each", _number(max(needs.values())), f"the most of {', '.join(needs)}")
    copies = limits.replication
    yield Row("Kafka: cores busy", _number(kafka.cores * copies), f"{kafka.how} x {copies} copies")
    mean = _number(_mean(load, costs, "kafka_bytes"))
    yield Row("Kafka: written", f"{_bytes(written * copies)}/s", f"{_per_s(load)} x {mean} bytes x {copies} copies")
    yield Row("Kafka: disk", _bytes(written * copies * limits.retention_h * 3600), f"for {limits.retention_h:g} h")


def _redis(load: Load, costs: Costs, limits: Limits, redis: "_Busy") -> Iterator[Row]:
    shards = _whole(redis.cores, limits.utilisation)
    yield Row("Redis: shards of one core", _number(shards), f"{redis.how} / {limits.utilisation:g}")
    seen = costs.exact.redis_bytes  # an exact hit leaves its request's id alone
    hit, answer = (max(0.0, cost.redis_bytes - seen) for cost in (costs.semantic, costs.miss))
    kept = load.rate_per_s * (seen * load.seen_ttl_s + (load.semantic * hit + load.miss * answer) * load.answer_ttl_s)
    of_ids = f"{_number(seen)} bytes x {load.seen_ttl_s:,g} s"
    of_answers = f"({load.semantic:.3g} x {_number(hit)} + {load.miss:.3g} x {_number(answer)}) bytes"
    how = f"{_per_s(load)} x ({of_ids} + {of_answers} x {load.answer_ttl_s:,g} s)"
    yield Row("Redis: memory", _bytes(kept), how)


def _index(load: Load, limits: Limits, installations: int) -> Iterator[Row]:
    lookups = load.rate_per_s * (1 - load.exact)
    yield Row("index: lookups", f"{_number(lookups)}/s", f"{_per_s(load)} x {1 - load.exact:.3g}")
    cores = lookups * limits.lookup_cpu_ms / 1000
    yield Row("index: cores busy", _number(cores), f"{_number(lookups)}/s x {limits.lookup_cpu_ms:.2f} ms")
    asked, room = load.rate_per_s * load.miss * load.answer_ttl_s, limits.index_entries * installations
    of_asked = f"{_per_s(load)} x {load.miss:.3g} x {load.answer_ttl_s:,g} s"
    held = min(asked, room)
    yield Row(
        "index: questions kept", _number(held), f"the least of {of_asked}, {installations} x {limits.index_entries:,}"
    )
    memory = _bytes(held * VECTOR_BYTES * INDEX_OVERHEAD)
    yield Row("index: memory", memory, f"{_number(held)} x {VECTOR_BYTES} bytes x {INDEX_OVERHEAD:g}")


@dataclass(frozen=True, slots=True)
class _Workers:
    count: int
    how: str


def _workers(load: Load, tier: TierLoad, limits: Limits) -> _Workers:
    tokens_per_s = load.rate_per_s * load.miss * tier.share * tier.tokens
    busy = tokens_per_s / tier.tokens_per_s
    count = _whole(busy, limits.utilisation)
    how = f"{_number(tokens_per_s)} tokens/s, {_number(tier.tokens_per_s)} of one at most; each {busy / count:.0%} busy"
    return _Workers(count, how)


@dataclass(frozen=True, slots=True)
class _Busy:
    cores: float
    how: str


def _busy(load: Load, costs: Costs, part: str) -> _Busy:
    """Cores that a part keeps busy."""
    terms = [(share, getattr(cost, part)) for share, cost in _ways(load, costs)]
    sum_ms = sum(share * cost_ms for share, cost_ms in terms)
    told = " + ".join(f"{share:.3g} x {cost_ms:.3g}" for share, cost_ms in terms)
    return _Busy(load.rate_per_s * sum_ms / 1000, f"{_per_s(load)} x ({told}) ms")


def _per_s(load: Load) -> str:
    return f"{_number(load.rate_per_s)}/s"


def _mean(load: Load, costs: Costs, part: str) -> float:
    return sum(share * getattr(cost, part) for share, cost in _ways(load, costs))


def _ways(load: Load, costs: Costs) -> list[tuple[float, Cost]]:
    return [(load.exact, costs.exact), (load.semantic, costs.semantic), (load.miss, costs.miss)]


def _whole(busy: float, utilisation: float) -> int:
    return max(1, math.ceil(busy / utilisation))


def _number(value: float) -> str:
    """Two digits that count, and no more than are known."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2g}"


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} TB" if value < 1000 else f"{value:,.0f} TB"
