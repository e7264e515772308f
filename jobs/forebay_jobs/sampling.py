"""Choosing some of many, by strata: each is counted by itself, so that a frequent one takes nothing from a rare one."""

from dataclasses import dataclass

_FIRST = 0.5
"""A stratum's first is taken after half as many as lie between two, as the middle of a period stands for it best."""


@dataclass(slots=True)
class _Stratum:
    last_ms: int
    credit: float = _FIRST
    passed: int = 0


class Sampler:
    """Systematic sampling within each stratum: with a share of 0.01 every hundredth is taken.

    Counts begin anew with the process, which changes when one is taken and not how many are. Not safe to share between
    threads.
    """

    def __init__(self, at_least_every_s: float | None = None) -> None:
        """With a time, a stratum that had none taken for so long has its next one taken."""
        self._every_ms = at_least_every_s and at_least_every_s * 1000
        self._strata: dict[tuple[str, ...], _Stratum] = {}

    def take(self, stratum: tuple[str, ...], share: float, now_ms: int) -> int:
        """Whether one of a stratum is taken: 0 where it is not, else for how many it stands, itself included.

        Args:
            stratum: its name; there must be a bounded number of them.
            share: of them to take, in [0, 1]; 0: none.
        """
        if share == 0:
            return 0
        count = self._strata.setdefault(stratum, _Stratum(now_ms))
        count.passed += 1
        count.credit += share
        overdue = self._every_ms is not None and now_ms - count.last_ms >= self._every_ms
        if count.credit < 1 and not overdue:
            return 0
        weight = count.passed
        # One taken for its time owes nothing: a rare stratum is to be taken more often than the share.
        count.credit, count.passed, count.last_ms = max(0.0, count.credit - 1), 0, now_ms
        return weight
