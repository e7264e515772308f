"""Simulates traffic under the settings that hold and under others, and tries what else could be set."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from forebay_schemas.config import Config

from .behaviour import Behaviour
from .figures import Figures
from .outcome import PRESENT, RECORDED, WHAT_IF, Outcome
from .play import play
from .quality import quality_of
from .recommend import Front, fronts
from .sums import count, figures_of, recorded_figures
from .sweep import sweep
from .traffic import Recorded, Traffic

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A configuration, and for how many answers its exact cache has room; None: for any number."""

    config: Config
    most_kept: int | None = None


class Simulation:
    """What traffic comes to.

    Args:
        recorded: what really became of it, where that is known.
    """

    def __init__(self, traffic: Traffic, behaviour: Behaviour, recorded: Recorded | None, told: Told) -> None:
        self._traffic = traffic
        self._behaviour = behaviour
        self._recorded = recorded
        self._told = told
        self._took_s: dict[str, float] = {}

    def run(
        self, source: str, present: Side, other: Side | None, notes: Sequence[str], max_loss: float, first: int
    ) -> Outcome:
        """Simulate both sides, and try other settings where the traffic is labelled.

        Args:
            first: how many requests settings are chosen on.
        """
        sides = {RECORDED: recorded_figures(self._traffic, self._recorded, present.config)} if self._recorded else {}
        for name, side in ((PRESENT, present), (WHAT_IF, other)):
            if side is not None:
                sides[name] = self._simulated(name, side)
        tried = other or present
        found = []
        if quality_of(self._traffic, list(tried.config.tiers)) is not None:
            with self._timed("settings tried"):
                points = sweep(self._traffic, tried.config, self._behaviour, tried.most_kept, first, self._told)
            found = fronts(points, tried.config, max_loss)
        return Outcome(
            source=source,
            sides=sides,
            fronts=found,
            max_loss=max_loss,
            first=first,
            notes=[*notes, *_warnings(found, max_loss)],
            took_s=self._took_s,
        )

    def _simulated(self, name: str, side: Side) -> dict[str, Figures]:
        self._told(f"simulating: {name}")
        with self._timed(name):
            played = play(self._traffic, side.config, self._behaviour, side.most_kept)
            quality = quality_of(self._traffic, list(side.config.tiers))
            cells = count(self._traffic, played, side.config, quality, slice(None))
            return figures_of(cells, self._traffic, played.tier, side.config, self._behaviour)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._took_s[step] = time.perf_counter() - began


def _warnings(found: list[Front], max_loss: float) -> Iterator[str]:
    """Which recommended settings do not hold what they promised."""
    for front in found:
        first, second = front.recommended.first.loss or 0.0, front.recommended.second.loss or 0.0
        if first > max_loss:
            yield f"{front.category}: no setting loses at most {max_loss:.2%}; the one that loses least is recommended"
        elif second > max_loss:
            yield (
                f"{front.category}: what is recommended loses {second:.2%} of the requests that it is reported on, more"
                f" than {max_loss:.2%}: a cache that is fuller finds more neighbours; choose on more requests, or allow"
                " less"
            )
