"""The provisioned dashboards, read from the files that Grafana reads: what each panel asks, and how it is shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec


class Query(msgspec.Struct, frozen=True, rename="camel"):
    """An expression in PromQL with Grafana's variables, and how its lines are called."""

    expr: str
    legend_format: str
    instant: bool = False


class Place(msgspec.Struct, frozen=True):
    """Where a panel lies, in a grid of 24 columns."""

    x: int
    y: int
    w: int
    h: int


class Step(msgspec.Struct, frozen=True):
    """The colour of values from this one on; that of the first step is of all below the second."""

    color: str
    value: float | None


class Thresholds(msgspec.Struct, frozen=True):
    """From which value on a figure has another colour."""

    steps: list[Step] = []


class Shown(msgspec.Struct, frozen=True):
    """How the values of a panel are shown.

    Attributes:
        custom: how lines are drawn.
        mappings: what single values are called.
    """

    unit: str = "short"
    min: float | None = None
    max: float | None = None
    decimals: int | None = None
    thresholds: Thresholds = Thresholds()
    custom: dict[str, Any] = {}
    mappings: list[dict[str, Any]] = []

    @property
    def stacked(self) -> bool:
        """Whether lines lie on top of each other."""
        return "stacking" in self.custom

    @property
    def logarithmic(self) -> bool:
        """Whether the scale is."""
        return self.custom.get("scaleDistribution", {}).get("type") == "log"


class _Fields(msgspec.Struct, frozen=True):
    defaults: Shown = Shown()


class Panel(msgspec.Struct, frozen=True, rename="camel"):
    """A panel, or the heading of those below it (``row``)."""

    type: str
    title: str
    grid_pos: Place
    description: str = ""
    targets: list[Query] = []
    field_config: _Fields = _Fields()

    @property
    def shown(self) -> Shown:
        return self.field_config.defaults


class Board(msgspec.Struct, frozen=True):
    """One dashboard."""

    title: str
    uid: str
    panels: list[Panel]

    def in_order(self) -> list[Panel]:
        """From above, and from the left."""
        return sorted(self.panels, key=lambda panel: (panel.grid_pos.y, panel.grid_pos.x))


def boards() -> Iterator[Board]:
    """The dashboards of this version, the overview first."""
    read = [msgspec.json.decode(file.read_bytes(), type=Board) for file in sorted(_folder().glob("*.json"))]
    yield from sorted(read, key=lambda board: "overview" not in board.uid)


def _folder() -> Path:
    """In an installed distribution beside this module, in a checkout where Grafana's other files are."""
    here = Path(__file__).parent
    inside = here / "grafana"
    return inside if inside.is_dir() else here.parents[1] / "grafana" / "dashboards"
