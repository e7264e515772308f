"""Looks at a whole installation once: every part at the same moment, each for itself."""

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from forebay_schemas.config import Config

from .backlog import Backlog, Backlogs
from .scrape import Samples, Target, scrape, targets

_MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Look:
    """What all parts said at one moment.

    Attributes:
        at: when, for people.
        at_s: when, in seconds of a clock that is never set.
        samples: by process; None of one that did not answer.
        backlogs: None where the brokers did not answer.
    """

    at: dt.datetime
    at_s: float
    samples: Mapping[Target, Samples | None]
    backlogs: tuple[Backlog, ...] | None


def within(window_s: float, looks: Sequence[Look]) -> Sequence[Look]:
    """Those at most ``window_s`` older than the newest, which stands last; two at least, where there are two."""
    recent = [look for look in looks if looks[-1].at_s - look.at_s <= window_s]
    return recent if len(recent) > 1 else looks[-2:]


class Looker:
    """Looks at one installation, as often as it is asked to. Use it as a context manager."""

    def __init__(self, config: Config) -> None:
        self._metrics = config.metrics
        self._backlogs = Backlogs(config)
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="look")

    def __enter__(self) -> "Looker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> Look:
        """What is there now; a part that does not answer is waited for a few seconds."""
        at, at_s = dt.datetime.now().astimezone(), time.monotonic()
        backlogs = self._pool.submit(self._backlogs.read)
        asked = targets(self._metrics)
        return Look(at, at_s, dict(zip(asked, self._pool.map(scrape, asked), strict=True)), backlogs.result())
