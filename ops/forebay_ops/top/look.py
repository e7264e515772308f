"""Looks at a whole installation once: every part at the same moment, each for itself."""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from forebay_schemas.config import Config

from .backlog import Backlog, Backlogs
from .scrape import Samples, Target, scrape, targets

Result = TypeVar("Result")


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
    """Looks at one installation, as often as it is asked to."""

    def __init__(self, config: Config) -> None:
        self._metrics = config.metrics
        self._backlogs = Backlogs(config)

    def look(self) -> Look:
        """What is there now; a part that does not answer is waited for a few seconds."""
        at, at_s = dt.datetime.now().astimezone(), time.monotonic()
        backlogs = in_background(self._backlogs.read)
        asked = {target: in_background(partial(scrape, target)) for target in targets(self._metrics)}
        return Look(at, at_s, {target: answer.result() for target, answer in asked.items()}, backlogs.result())


def in_background(function: Callable[[], Result]) -> Future[Result]:
    """Begin it in a thread of its own, which does not hold the process back from ending as those of a pool do."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
