"""What `forebay rollout` prints."""

import datetime as dt
import json
from collections.abc import Collection, Sequence

from forebay_schemas.config import Config
from forebay_schemas.overrides import paths
from forebay_schemas.rollouts import Rollout, Stage
from rich.table import Table

from ..rollouts.guards import Evidence, Guard, State, p95
from .tables import figures_table

_COLOURS = {State.HOLDS: "green", State.OPEN: "yellow", State.BROKEN: "red"}


def changes_table(rollout: Rollout, config: Config) -> Table:
    """What a rollout changes, beside what holds without it."""
    table = _words("setting", "now", "in the rollout")
    for path, parts in zip(rollout.overrides, paths(rollout.overrides), strict=True):
        table.add_row(path, _now(config, parts), rollout.overrides[path])
    return table


def live_table(rollouts: Sequence[Rollout], superseded: Collection[str] = ()) -> Table:
    """Where each rollout is; of those of these names nothing is left, as later ones changed it all."""
    table = _words("rollout", "stage", "by", "since (UTC)", "last moved by")
    for one in rollouts:
        stage = f"{one.stage} %" if one.stage.isdigit() else one.stage.replace("_", " ")
        state = ", paused" if one.paused else ", superseded" if one.name in superseded else ""
        table.add_row(one.name, stage + state, one.unit, _time(one.since_ms), one.history[-1].who)
    return table


def arms_table(rollout: Rollout, evidence: Evidence, guards: Sequence[Guard]) -> Table:
    """Both arms of a live rollout, and its guards."""
    table = figures_table(rollout.name, "rollout", "baseline", "limit", "guard")
    canary, baseline = evidence.canary, evidence.baseline
    table.add_row("replies", f"{canary.replies:,}", f"{baseline.replies:,}", "", "")
    table.add_row("generated", f"{canary.generated:,}", f"{baseline.generated:,}", "", "")
    if rollout.stage is Stage.SHADOW:
        table.add_row("compared", f"{evidence.compared:,}", "", "", "")
    for guard in guards:
        unit = _ms if guard.name == "slower" else _share
        name = "P95 of a generation" if guard.name == "slower" else guard.name
        colour = _COLOURS[guard.state]
        said = f"[{colour}]{guard.state}[/]"
        table.add_row(name, unit(guard.canary), unit(guard.baseline), unit(guard.limit), said)
    if not guards and len(canary.generation_ms) > 1:
        table.add_row("P95 of a generation", _ms(p95(canary.generation_ms)), "", "", "")
    return table


def history_table(rollout: Rollout) -> Table:
    """The steps of a rollout, oldest first."""
    table = _words("when (UTC)", "what", "stage", "who", "why")
    if rollout.forgotten:
        table.add_row("", f"{rollout.forgotten} older", "", "", "")
    for step in rollout.history:
        table.add_row(_time(step.at_ms), step.what, step.stage, step.who, step.why)
    return table


def _words(*titles: str) -> Table:
    """A table like those of figures, whose columns may fold."""
    table = figures_table(*titles[:1])
    for title in titles[1:]:
        table.add_column(title, overflow="fold")
    return table


def _now(config: Config, path: tuple[str, ...]) -> str:
    section, *rest = path
    value = getattr(config, section)
    if section == "categories":
        value, rest = config.category(rest[0]), rest[1:]
    for part in rest:
        value = value[part] if isinstance(value, dict) else getattr(value, part, None)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f} ms"


def _time(at_ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC):%Y-%m-%d %H:%M:%S}"
