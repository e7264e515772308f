"""All that a simulation comes to, and its JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .figures import Figures, added
from .recommend import Front
from .sweep import Point

RECORDED, PRESENT, WHAT_IF = "recorded", "present", "what if"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of traffic, on several sides.

    Attributes:
        source: what was simulated.
        sides: by name (``RECORDED``, ``PRESENT``, ``WHAT_IF``) the figures of each category.
        fronts: of labelled categories; empty where nothing is labelled.
        max_loss: the quality that may be lost, as a share of the requests.
        first: how many requests settings were chosen on; the others are reported.
        notes: what has to be known to read the figures right.
        took_s: how long each step took.
    """

    source: str
    sides: Mapping[str, Mapping[str, Figures]]
    fronts: Sequence[Front]
    max_loss: float
    first: int
    notes: Sequence[str]
    took_s: Mapping[str, float]

    @property
    def totals(self) -> dict[str, Figures]:
        """The figures of all categories together, by side."""
        return {name: added(categories.values()) for name, categories in self.sides.items()}


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All figures, with the shares that follow from them."""
    totals = outcome.totals
    return {
        "source": outcome.source,
        "sides": {
            side: {
                "total": _figures(totals[side]),
                "categories": {name: _figures(figures) for name, figures in categories.items()},
            }
            for side, categories in outcome.sides.items()
        },
        "chosen_on_requests": outcome.first,
        "max_loss": outcome.max_loss,
        "fronts": [
            {
                "category": front.category,
                "present": _point(front.present),
                "recommended": _point(front.recommended),
                "front": [_point(point) for point in front.best],
                "tried": [_point(point) for point in front.points],
            }
            for front in outcome.fronts
        ],
        "notes": list(outcome.notes),
        "took_s": dict(outcome.took_s),
    }


def _figures(figures: Figures) -> dict[str, Any]:
    shares = ("hit_rate", "saved_share", "cost_per_1k", "wrong_share", "loss")
    return {field.name: getattr(figures, field.name) for field in fields(figures)} | {
        name: getattr(figures, name) for name in shares
    }


def _point(point: Point) -> dict[str, Any]:
    return asdict(point.setting) | {"first": _figures(point.first), "second": _figures(point.second)}
