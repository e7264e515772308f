"""Keeps the index of questions clean and bounded: drops those whose answers expired, and those that are worth least.

One thread a process, and among the processes that share a server one at a time, walks through the index page by page,
slowly. Points are ordered by digest, so each page is a random sample of the whole index. Where there are more questions
than allowed, each page gives up its share of what is too much, and of its questions those that are worth least: what
Redis does with samples of five keys, with samples of hundreds.
"""

import heapq
import logging
import math
import threading
import time
import uuid
from collections.abc import Sequence

import msgspec
import redis
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics

from .answers import AnswerStore, Worth
from .guard import is_failure
from .questions import Indexed, SweepableIndex
from .redis_store import RedisStore

logger = logging.getLogger(__name__)

PAGE = 512
_BUSY_SHARE = 0.05
"""Of the thread's time while it walks: a million questions, at some 25 ms a page, take a quarter of an hour."""
_PRIOR_H = 6.0
"""Hours of its own age that outweigh what a question is presumed to save: about a working day tells the two apart."""


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one page, or one pass, came to."""

    seen: int = 0
    expired: int = 0
    """Dropped because the answer is past its time to live, or gone from Redis."""
    evicted: int = 0
    """Dropped because the index held more than ``semantic.max_entries``."""

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(
            seen=self.seen + other.seen, expired=self.expired + other.expired, evicted=self.evicted + other.evicted
        )


class Sweeper:
    """See the module. ``sweep`` is one pass; ``start`` makes them in a thread until ``close``."""

    def __init__(
        self,
        config: Config,
        index: SweepableIndex,
        answers: AnswerStore,
        store: RedisStore,
        metrics: JobMetrics,
    ) -> None:
        self._config = config
        self._settings = settings = config.semantic
        self._index = index
        self._answers = answers
        self._lease = _Lease(store, f"{store.prefix}:sweeper:{settings.collection}", settings.sweep_interval_s)
        self._metrics = metrics
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        metrics.entries.set_function(self._entries)

    def start(self) -> None:
        """Begin to sweep in the background."""
        self._thread.start()

    def close(self) -> None:
        """End it. Returns when the index is left alone."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def sweep(self, now_ms: int) -> Swept:
        """Walk once through the index, unless another process did within the interval.

        Ends early where Redis is away, because an answer that cannot be seen is not gone, and when this closes.
        Raises what the index raises.
        """
        swept = Swept()
        begin: str | None = None
        count = self._index.count()
        share = max(0, count - self._settings.max_entries) / max(1, count)
        due = 0.0
        """How many are still to be evicted of the pages so far."""
        while self._lease.hold():
            started = time.perf_counter()
            page = self._index.page(begin, PAGE)
            due += share * len(page.questions)
            one = self._sweep_page(page.questions, due, now_ms)
            if one is None:
                break
            due -= one.expired + one.evicted
            swept += one
            begin = page.next
            rest_s = (time.perf_counter() - started) * (1 / _BUSY_SHARE - 1)
            # Within the lease, however slow the stores are.
            if begin is None or self._stop.wait(min(rest_s, self._settings.sweep_interval_s / 2)):
                break
        return swept

    def _sweep_page(self, questions: Sequence[Indexed], due: float, now_ms: int) -> Swept | None:
        """Drop of these what is to go; None where Redis does not say."""
        worths = self._answers.worth([one.digest for one in questions])
        if worths is None:
            return None
        # An answer that is filled again at this very moment loses its question, which its next generation brings back.
        kept = [
            (one, worth)
            for one, worth in zip(questions, worths, strict=True)
            if worth is not None and not self._too_old(one, now_ms)
        ]
        expired = {one.digest for one in questions} - {one.digest for one, _ in kept}
        evicted = least_worth(kept, int(due + 1e-6) - len(expired), now_ms)  # a sum of shares: 2.9999999 is 3
        if expired or evicted:
            self._index.remove(*expired, *evicted)
        self._metrics.swept.labels("expired").inc(len(expired))
        self._metrics.swept.labels("evicted").inc(len(evicted))
        return Swept(seen=len(questions), expired=len(expired), evicted=len(evicted))

    def _too_old(self, question: Indexed, now_ms: int) -> bool:
        """Whether its answer serves equal requests at most, and only stands in the way of younger ones here."""
        return now_ms - question.created_ms >= self._config.category(question.category).semantic_ttl_s * 1000

    def _entries(self) -> float:
        """What the index says when it is asked; NaN where it does not say."""
        try:
            return self._index.count()
        except BaseException as error:
            if not is_failure(error):
                raise
            return math.nan

    def _run(self) -> None:
        while not self._stop.wait(self._settings.sweep_interval_s):
            try:
                swept = self.sweep(int(time.time() * 1000))
                if swept.expired or swept.evicted:
                    logger.info(
                        "of %d questions %d were dropped with their answers and %d for their little worth",
                        swept.seen, swept.expired, swept.evicted,
                    )  # fmt: skip
                self._index.optimise(self._stop)
            except BaseException as error:
                if not is_failure(error):
                    raise
                self._metrics.store_errors.labels("qdrant").inc()
                logger.warning("the index cannot be swept, it is tried again (%s: %s)", type(error).__name__, error)


def least_worth(known: Sequence[tuple[Indexed, Worth]], count: int, now_ms: int) -> list[str]:
    """The digests of those that save least for their age.

    What a question saves an hour is estimated as what it saved over its age, where the mean of all of them counts as
    much as ``_PRIOR_H`` hours of its own (a Gamma prior on a Poisson rate). So a new one is worth the mean, and has
    its chance; one that is not asked for sinks below, the older the lower; one that saves stays above. Where nothing
    costs anything, the same is asked of hits.

    Args:
        count: how many; none where it is not above zero.
        now_ms: the time.
    """
    if count <= 0 or not known:
        return []
    ages_h = [max(0, now_ms - one.created_ms) / 3_600_000 for one, _ in known]
    saved = _rates([worth.saved_usd for _, worth in known], ages_h)
    hits = _rates([worth.hits for _, worth in known], ages_h)
    worths = zip(saved, hits, (-age_h for age_h in ages_h), (one.digest for one, _ in known), strict=True)
    return [digest for *_, digest in heapq.nsmallest(count, worths)]


def _rates(totals: Sequence[float], ages_h: Sequence[float]) -> list[float]:
    """Of each so much an hour, drawn to the mean of all."""
    mean = sum(totals) / (sum(ages_h) or 1.0)
    return [(total + mean * _PRIOR_H) / (age_h + _PRIOR_H) for total, age_h in zip(totals, ages_h, strict=True)]


class _Lease:
    """The right to sweep, of one process at a time: a key in Redis that is held, and then left to expire.

    It is not given back, so that processes that share an index make one pass an interval together.
    """

    def __init__(self, store: RedisStore, key: str, interval_s: float) -> None:
        self._store = store
        self._key = key
        self._px = max(1, round(interval_s * 1000))
        self._token = uuid.uuid4().bytes

    def hold(self) -> bool:
        """Whether this process has it, from now on for an interval; not while Redis is away."""
        return self._store.call(self._hold, False)

    def _hold(self, client: redis.Redis) -> bool:
        if client.get(self._key) == self._token and client.pexpire(self._key, self._px):
            return True
        return bool(client.set(self._key, self._token, nx=True, px=self._px))
