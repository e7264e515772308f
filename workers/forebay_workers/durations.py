"""How long answers take at present, so that it is known which time a task needs. Pure: times are passed in."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from forebay_schemas.canonical import category_of
from forebay_schemas.records import Request

_RECENT = 64
_FEWEST = 8
"""Of fewer nothing is concluded."""
_SHARE = 0.9
"""What is enough for so many of the recent answers is enough. With the median, half of what a model writes that is
asked too much would be for nobody: its tasks have waited until they have just enough time."""
_KINDS = 256
"""Tiers and categories that are known at once; services name categories as they like."""


@dataclass(slots=True)
class _Kind:
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    enough_ms: float = 0.0


class Durations:
    """See the module. Answers of one tier and category are taken to be alike."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[str, str], _Kind] = OrderedDict()

    def took(self, tier: str, request: Request, ms: float, *, cut_short: bool = False) -> None:
        """An answer was there so long after the turn of its request had come.

        Args:
            cut_short: it was not, and would have taken longer still; which tells something where it is long.
        """
        if cut_short and ms <= self.enough_ms(tier, request):
            return
        key = (tier, category_of(request))
        kind = self._kinds.setdefault(key, _Kind())
        self._kinds.move_to_end(key)
        if len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        kind.recent.append(ms)
        if len(kind.recent) >= _FEWEST:
            kind.enough_ms = sorted(kind.recent)[int(_SHARE * len(kind.recent))]

    def enough_ms(self, tier: str, request: Request) -> float:
        """In this time a request is most likely answered once its turn has come; 0 where that is not known."""
        kind = self._kinds.get((tier, category_of(request)))
        return kind.enough_ms if kind else 0.0
