"""When an endpoint is called: so many calls at a time, once more where that may help, none while it is left alone."""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable

from forebay_schemas.tiers import EndpointConfig

from . import Generation, GenerationError, Unavailable
from .breaker import Breaker

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
"""Between two tries of a call where the endpoint does not say when; twice as long each time."""
LONGEST_LIMIT_S = 10.0
"""A rate limit that ends later than this is not waited for: whoever waits is better served by another model."""
SILENT_S = 2.0
"""A call whose time is over sooner tells nothing about its endpoint. One that hangs is found out by this, because most
deadlines end before ``timeout_s`` does."""

_log = logging.getLogger(__name__)


class Passing(Unavailable):
    """A call failed before anything was told, and the next one may not.

    Attributes:
        limited: whether the endpoint works and gets too many.
        again_s: for how long it wants none, above 0; None where it does not say.
    """

    def __init__(
        self, message: str, *, unreached: bool = False, limited: bool = False, again_s: float | None = None
    ) -> None:
        super().__init__(message, unreached=unreached)
        self.limited = limited
        self.again_s = again_s


class Endpoint:
    """The calls to one endpoint, whatever tier they are for. A rate limit that one of them meets holds for all."""

    def __init__(self, name: str, config: EndpointConfig, now_s: Callable[[], float]) -> None:
        """``now_s`` is a monotonic clock in seconds: that of the event loop."""
        self._name = name
        self._config = config
        self._now_s = now_s
        self._room = asyncio.Semaphore(config.concurrency)
        self._breaker = Breaker(config.failures_to_open, config.open_s, now_s)
        self._limited_until_s = self._heard_s = now_s()

    @property
    def takes(self) -> int:
        """Calls that may be made at the same time, at present."""
        if self._breaker.open:
            return int(self._breaker.due)
        return self._config.concurrency if self._limited_until_s <= self._now_s() else 0

    def heard(self) -> None:
        """Something came from the endpoint, so it does not hang."""
        self._heard_s = self._now_s()

    async def call(self, once: Callable[[], Awaitable[Generation]], until_s: float | None = None) -> Generation:
        """Ask until there is an answer, or no hope for one.

        Args:
            once: makes one call.
            until_s: when the caller cancels it because its time is over; cancelled sooner, it says nothing of the
                endpoint.

        Raises:
            Unavailable: the endpoint failed, is limited for long or is left alone.
            GenerationError: it does not want this request.
        """
        for retry in itertools.count():
            last = retry == self._config.max_retries
            async with self._room:
                await self._limit_over()
                if not self._breaker.admits():
                    message = f"{self._name} is left alone for a while, because it kept failing"
                    raise Unavailable(message, unreached=True)
                try:
                    return await self._watched(once, until_s, last)
                except Passing as error:
                    pause_s = error.again_s or _pause_s(retry)
                    if error.limited or error.again_s:
                        self._limited_until_s = max(self._limited_until_s, self._now_s() + pause_s)
                        pause_s = 0.0
                    if last or self._breaker.open:
                        raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _watched(
        self, once: Callable[[], Awaitable[Generation]], until_s: float | None, last: bool
    ) -> Generation:
        """One call; how it ends is what the breaker and the others hear of."""
        began_s = self._now_s()
        try:
            generation = await once()
        except Passing as error:
            if error.limited:
                self._breaker.succeeded()
            elif last or self._breaker.open:
                self._failed()
            raise
        except Unavailable:
            self._failed()
            raise
        except GenerationError:  # the endpoint works, and does not want this request
            self._breaker.succeeded()
            raise
        except BaseException:
            late = until_s is not None and until_s <= self._now_s()
            if late and self._heard_s <= began_s <= self._now_s() - SILENT_S:
                self._failed()
            else:
                self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        return generation

    def _failed(self) -> None:
        was_open = self._breaker.open
        self._breaker.failed()
        if self._breaker.open and not was_open:
            _log.warning("%s is left alone for %g s", self._name, self._config.open_s)

    async def _limit_over(self) -> None:
        """Wait until calls are taken again, where that is soon."""
        while (left_s := self._limited_until_s - self._now_s()) > 0:
            if left_s > LONGEST_LIMIT_S:
                raise Unavailable(f"{self._name} takes no calls for another {left_s:.0f} s", unreached=True)
            await asyncio.sleep(left_s * random.uniform(1.0, 1.1))  # not all at once


def _pause_s(retry: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**retry) * random.uniform(0.75, 1.0)
