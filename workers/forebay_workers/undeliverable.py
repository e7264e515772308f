"""When to give up on a topic that the brokers let nobody write to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PATIENCE_S = 10.0
"""A topic is tried for this long before what is for it is given up: it may be just being made, or brokers may be
starting. Meanwhile nothing that shares a transaction with it is committed."""
FORGET_S = 60.0
"""A topic that was not refused for this long gets the patience again."""


@dataclass(slots=True)
class _Refusals:
    first_s: float
    last_s: float


class Undeliverable:
    """Remembers which topics are refused, and since when. Times are in seconds, of any one clock."""

    def __init__(self) -> None:
        self._topics: dict[str, _Refusals] = {}

    def refused(self, reasons: Mapping[str, str], now_s: float) -> dict[str, str]:
        """Take note of what was refused just now.

        Args:
            reasons: by topic, why.

        Returns:
            Those of the reasons whose topics have been refused for long enough.
        """
        for topic in reasons:
            refusals = self._topics.get(topic)
            if refusals is None or now_s - refusals.last_s > FORGET_S:
                self._topics[topic] = _Refusals(now_s, now_s)
            else:
                refusals.last_s = now_s
        return {topic: why for topic, why in reasons.items() if now_s - self._topics[topic].first_s >= PATIENCE_S}

    def accepted(self, topics: Iterable[str]) -> None:
        """These were written to."""
        if self._topics:
            for topic in topics:
                self._topics.pop(topic, None)
