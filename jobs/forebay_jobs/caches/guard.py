"""Failing open: a store that does not answer is left alone for a while, and the request goes on without it."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from forebay_schemas.metrics import JobMetrics

T = TypeVar("T")

logger = logging.getLogger(__name__)


def is_failure(error: BaseException) -> bool:
    """Whether a library failed. A panic in one that is written in Rust looks to Python like a wish to end."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class StoreGuard:
    """Calls a store as long as it answers; after a failure the next try is ``retry_after_ms`` later.

    So a store that is away costs one timeout now and then, not one for each request. Every exception counts as
    a failure: what a client's libraries raise is not in its documentation, and a request must not end the job.
    Safe to share between threads: a lost race means one more try.
    """

    def __init__(
        self,
        store: str,
        retry_after_ms: int,
        metrics: JobMetrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._retry_after_s = retry_after_ms / 1000
        self._errors = metrics.store_errors.labels(store)
        self._up = metrics.store_up.labels(store)
        self._up.set(1)
        self._monotonic = monotonic
        self._away_until: float | None = None

    def call(self, function: Callable[[], T], without: T) -> T:
        """What the function returns, or ``without`` while the store is away."""
        if self._away_until is not None and self._monotonic() < self._away_until:
            return without
        try:
            value = function()
        except BaseException as error:
            if not is_failure(error):
                raise
            self._failed(error)
            return without
        if self._away_until is not None:
            self._away_until = None
            self._up.set(1)
            logger.warning("%s answers again", self._store)
        return value

    def _failed(self, error: BaseException) -> None:
        self._errors.inc()
        self._up.set(0)
        if self._away_until is None:
            logger.warning("%s does not answer, going on without it (%s: %s)", self._store, type(error).__name__, error)
        self._away_until = self._monotonic() + self._retry_after_s
