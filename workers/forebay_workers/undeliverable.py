"""When to give up on a topic that nobody may write to: it is gone, or was never there."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

PATIENCE_S = 10.0
"""A topic is tried for this long before what is for it is given up: it may be just being made, or brokers may be
starting. Meanwhile nothing that shares a transaction with it is committed."""
LEFT_ALONE_S = 60.0
"""A topic that was given up is not tried for this long; one refusal after that gives it up again."""


@dataclass(slots=True)
class _Refused:
    since_s: float
    reason: str
    left_alone_until_s: float | None = None


class Undeliverable:
    """Remembers the topics that the brokers refuse. Times are in seconds, of any one clock."""

    def __init__(self) -> None:
        self._topics: dict[str, _Refused] = {}

    @property
    def refused(self) -> Collection[str]:
        """The topics that took no record when they were last tried."""
        return self._topics.keys()

    def note(self, topic: str, reason: str, now_s: float) -> None:
        """A record for this topic was refused just now."""
        refused = self._topics.setdefault(topic, _Refused(now_s, reason))
        refused.reason = reason
        known = refused.left_alone_until_s is not None
        if known or now_s - refused.since_s >= PATIENCE_S:
            refused.left_alone_until_s = now_s + LEFT_ALONE_S

    def accepted(self, topics: Iterable[str]) -> None:
        """These were written to."""
        if self._topics:
            for topic in topics:
                self._topics.pop(topic, None)

    def given_up(self, now_s: float) -> dict[str, str]:
        """The topics that are not to be tried now, and why."""
        return {
            topic: refused.reason
            for topic, refused in self._topics.items()
            if refused.left_alone_until_s is not None and now_s < refused.left_alone_until_s
        }
