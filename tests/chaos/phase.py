"""What became of the requests of a span of time: answered when, refused with what, waited for how long."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from forebay_schemas.records import Lane

from .checker import Asked

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Phase:
    """The requests that were made from one moment to another, in milliseconds since the epoch."""

    name: str
    began_ms: float
    ended_ms: float
    requests: tuple[Asked, ...]

    @classmethod
    def of(cls, name: str, began_ms: float, ended_ms: float, requests: Iterable[Asked]) -> "Phase":
        return cls(name, began_ms, ended_ms, tuple(one for one in requests if began_ms <= one.created_ms < ended_ms))

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.ended_ms - self.began_ms) / 1000

    @property
    def rate_per_s(self) -> float:
        """What was offered."""
        return len(self.requests) / self.seconds

    def asked(self, lane: Lane) -> list[Asked]:
        """Its requests of a lane."""
        return [one for one in self.requests if one.lane is lane]

    def in_time(self, lane: Lane) -> list[Asked]:
        """Those that were answered before their deadline; of those without one, before the phase was over."""
        return [one for one in self.asked(lane) if _answered_ms(one) <= (one.deadline_ms or self.ended_ms)]

    def share_in_time(self, lane: Lane) -> float:
        """Of the requests of a lane; 1 where there is none."""
        asked = self.asked(lane)
        return len(self.in_time(lane)) / len(asked) if asked else 1.0

    def wait_ms(self, lane: Lane, share: float) -> float:
        """How long an answer took at most, for that share of the answers in time; NaN where there is none."""
        return at_share((_answered_ms(one) - one.created_ms for one in self.in_time(lane)), share)

    @property
    def errors(self) -> Counter[str]:
        """How many were told each code."""
        return Counter(code for one in self.requests for code in one.errors)

    @property
    def refusals(self) -> dict[str, list[float]]:
        """What those were told that were refused, without its numbers; how long after its deadline each was, in
        milliseconds: below 0 before it, and NaN where it has none."""
        found = defaultdict[str, list[float]](list)
        for one in self.requests:
            for reply in one.committed[:1]:
                if reply.error is not None:
                    late_ms = math.nan if one.deadline_ms is None else reply.completed_ms - one.deadline_ms
                    found[_NUMBER.sub("…", reply.error.message)].append(late_ms)
        return dict(found)

    def told_after_deadline_ms(self, share: float) -> float:
        """How long after its deadline one that was refused was told, for that share of those; below 0: before it."""
        return at_share((late_ms for group in self.refusals.values() for late_ms in group), share)


def at_share(values: Iterable[float], share: float) -> float:
    """The value that so many are at or below; NaN where there is none. What is NaN does not count."""
    known = sorted(value for value in values if not math.isnan(value))
    return known[math.ceil(share * len(known)) - 1] if known else math.nan


def _answered_ms(asked: Asked) -> float:
    """When a request was answered, in milliseconds since the epoch; never where it was refused or is open."""
    return min((reply.completed_ms for reply in asked.committed if reply.error is None), default=math.inf)
