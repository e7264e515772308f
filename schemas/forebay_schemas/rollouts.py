"""Rollouts: changed settings that a growing share of tenants or users gets, and how one moves from stage to stage.

All there is to know of a rollout is one record, which lies in the compacted control topic under its name. Everybody
reads it there; whoever moves a rollout writes the next version of its record. Pure: times and names are passed in.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from .config import Config
from .errors import ConfigError, ForebayError
from .overrides import applied, laid_over, paths, shared
from .records import Control
from .tiers import Backend

COMMAND = "rollout"
"""The command of the control topic that carries a rollout, under the key ``rollout/<name>``."""
EVENT = "rollout"
"""The event that tells of a transition."""

MOST_LIVE = 4
"""Rollouts at a time, without the superseded ones: all of their combinations are checked at the start of each, and each
has caches of its own."""
HISTORY = 50
"""Steps that are kept; of the older ones their number is."""
_WHY_CHARS = 300
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


class RolloutError(ForebayError):
    """A rollout cannot be started or moved so; the message names the problem and the mend."""


class Stage(StrEnum):
    """How far a rollout is."""

    SHADOW = "shadow"
    """Its answers are compared, and shown to nobody."""
    TEN = "10"
    """It answers 10 % of the tenants or users; likewise below."""
    FIFTY = "50"
    NINETY = "90"
    ALL = "100"
    ROLLED_BACK = "rolled_back"
    FINISHED = "finished"
    """What it changed is in the configuration."""

    @property
    def share(self) -> float:
        """Of the units that get what is changed, in [0, 1]."""
        return int(self) / 100 if self.isdigit() else 0.0

    @property
    def live(self) -> bool:
        return self not in (Stage.ROLLED_BACK, Stage.FINISHED)


_NEXT: dict[Stage, Stage] = dict(itertools.pairwise((Stage.SHADOW, Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL)))


class Unit(StrEnum):
    """Whose requests stay together in one arm."""

    TENANT = "tenant"
    USER = "user"
    """Of a tenant; requests that name none go by their tenant."""


class Guards(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold before the next stage, and what ends a rollout. Shares are of replies, in [0, 1]."""

    min_minutes: float = 30.0
    """Of each stage."""
    min_replies: int = 200
    """Generated in each arm, in each stage."""
    errors: float = 0.02
    """The most by which the share of failures may lie above the baseline's: error replies, and answers for which
    another model had to stand in."""
    slower: float = 1.5
    """The most by which the P95 of generation may exceed the baseline's, as a factor."""
    escalations: float = 0.05
    """The most by which the share of replies that were asked for again one tier up may lie above."""
    complaints: float = 0.02
    """The same of replies with a thumb down."""
    agreement: float = 0.8
    """The least share of compared answers that agree with the baseline's."""
    shadow_share: float = 0.1
    """Of the requests of the shadow stage, how many the rollout answers too."""

    def check(self) -> None:
        """Raises RolloutError: a value is out of its range."""
        most = {"errors": 1.0, "escalations": 1.0, "complaints": 1.0, "agreement": 1.0, "shadow_share": 1.0}
        for name in self.__struct_fields__:
            value, top = getattr(self, name), most.get(name, 1e6)
            least = {"slower": 1.0, "min_replies": 20}.get(name, 0.0)
            if not least <= value <= top:
                raise RolloutError(
                    f"{name.replace('_', '-')}: is {value:g}; give a value between {least:g} and {top:g}"
                )


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A transition: who, when, why, and the stage that it led to."""

    at_ms: int
    who: str
    what: str
    """``start``, ``promote``, ``pause``, ``resume``, ``roll back``, ``finish`` or ``restate``."""
    stage: Stage
    why: str


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout as it stands."""

    name: str
    version: int
    """Grows by one with each transition. Of two records with one version the first in the topic counts."""
    overrides: dict[str, str]
    """As in ``overrides``."""
    stage: Stage
    started_ms: int
    """When it was started, in milliseconds since the Unix epoch."""
    since_ms: int
    """When its stage began."""
    unit: Unit = Unit.TENANT
    guards: Guards = Guards()
    paused: bool = False
    """Whether it stays in its stage until somebody moves it; a broken guard still ends it."""
    history: list[Step] = []
    """The newest steps, oldest first."""
    forgotten: int = 0
    """Older steps."""

    @property
    def arm(self) -> str:
        """Names it among all that ever were: a rollout that is started anew shares nothing with the old one."""
        return f"{self.name}@{self.started_ms}"

    def takes(self, tenant: str, user: str | None) -> bool:
        """Whether requests of a tenant and user get what it changes.

        Stable: whoever is among the first 10 % is among the first 50 % too. Another rollout chooses others.
        """
        return self.stage.share > 0 and self._lot(tenant, user) < self.stage.share

    def _lot(self, tenant: str, user: str | None) -> float:
        unit = [tenant, user] if self.unit is Unit.USER and user is not None else [tenant]
        digest = hashlib.blake2b(msgspec.json.encode([self.arm, *unit]), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64


def start(
    known: Mapping[str, Rollout],
    name: str,
    overrides: Mapping[str, str],
    config: Config,
    *,
    unit: Unit = Unit.TENANT,
    guards: Guards | None = None,
    stage: Stage = Stage.SHADOW,
    who: str,
    why: str,
    now_ms: int,
) -> Rollout:
    """A new rollout, or the next one of a name whose last one is over.

    Args:
        known: all rollouts by name, those that are over too.

    Raises:
        RolloutError: it cannot be started beside those that are live.
        ConfigError: what it changes cannot work.
    """
    guards = guards or Guards()
    if not _NAME.fullmatch(name):
        raise RolloutError(f"{name!a}: is no name; use up to 63 lower-case letters, digits and hyphens")
    if not overrides:
        raise RolloutError(f"{name}: changes nothing; give at least one setting and its value")
    if not stage.live:
        raise RolloutError(f"{name}: cannot start as {stage}; begin with shadow, or with 10")
    guards.check()
    before = known.get(name)
    if before is not None and before.stage.live:
        raise RolloutError(f"{name}: is live, at the stage {before.stage}; roll it back first, or choose another name")
    live = in_order(known.values())
    check_beside(name, overrides, live)
    standing = merged(one for one in live if one.stage is Stage.ALL)
    if applied(config, laid_over(standing, overrides)) == applied(config, standing):
        raise RolloutError(f"{name}: everybody has these values already; give others")
    _check_combinations(name, overrides, _in_force(live), config)
    _check_models(applied(config, overrides), config)
    rollout = Rollout(
        name=name,
        version=before.version if before else 0,
        overrides=dict(overrides),
        stage=stage,
        started_ms=now_ms,
        since_ms=now_ms,
        unit=unit,
        guards=guards,
        history=before.history if before else [],
        forgotten=before.forgotten if before else 0,
    )
    return _step(rollout, "start", who, why, now_ms, stage=stage)


def in_order(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Those that are live, as they were started: who comes first, holds."""
    return _by_age(one for one in rollouts if one.stage.live)


def left_of(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Of the rollouts that a request is in, those of which something holds, as they were started.

    One that answers everybody is what later ones are tried against. They may change its settings, so it lies beneath
    them; where nothing of it is left, the request is in their arm alone.
    """
    held: list[Rollout] = []
    over: dict[str, str] = {}
    for rollout in reversed(_by_age(rollouts)):
        if any(shared({path: value}, over) is None for path, value in rollout.overrides.items()):
            held.append(rollout)
        over = laid_over(rollout.overrides, over)
    return held[::-1]


def superseded(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Those that answer everybody and of which nothing is left, as later ones that do so too change all that they
    changed. They hold again where those are rolled back."""
    standing = [one for one in in_order(rollouts) if one.stage is Stage.ALL]
    held = {one.name for one in left_of(standing)}
    return [one for one in standing if one.name not in held]


def check_beside(name: str, overrides: Mapping[str, str], live: Sequence[Rollout]) -> None:
    """That a rollout changes no setting that a live one changes for some, and that they are not too many.

    Raises:
        RolloutError: it does, or they are.
        ConfigError: it changes what is no setting.
    """
    paths(overrides)
    in_force = _in_force(live)
    if len(in_force) >= MOST_LIVE:
        raise RolloutError(f"{name}: {len(in_force)} rollouts are live, the most there may be; finish or roll back one")
    for other in in_force:
        if other.stage is not Stage.ALL and (path := shared(overrides, other.overrides)) is not None:
            raise RolloutError(
                f"{path}: is changed by the rollout {other.name} too, at the stage {other.stage}; let it get to 100 or"
                " roll it back first"
            )


def crowded_out(known: Mapping[str, Rollout]) -> dict[str, str]:
    """Live rollouts that may not be beside those before them, by name, and why: whoever starts one does not see those
    that are started at the same moment."""
    holding: list[Rollout] = []
    out: dict[str, str] = {}
    for one in in_order(known.values()):
        try:
            check_beside(one.name, one.overrides, holding)
        except ForebayError as error:
            out[one.name] = str(error)
        else:
            holding.append(one)
    return out


def promote(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout in its next stage."""
    _check_live(rollout, "promoted")
    after = _NEXT.get(rollout.stage)
    if after is None:
        raise RolloutError(
            f"{rollout.name}: answers everybody already; start the next one over it, or put its settings into the"
            " configuration, then finish it"
        )
    return _step(rollout, "promote", who, why, now_ms, stage=after)


def pause(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout, to stay in its stage until somebody moves it."""
    _check_live(rollout, "paused")
    if rollout.paused:
        raise RolloutError(f"{rollout.name}: is paused already")
    return _step(rollout, "pause", who, why, now_ms, paused=True)


def resume(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout, to be moved by its guards again."""
    _check_live(rollout, "resumed")
    if not rollout.paused:
        raise RolloutError(f"{rollout.name}: is not paused")
    return _step(rollout, "resume", who, why, now_ms, paused=False)


def roll_back(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout at its end: nobody gets what it changed any more, but what holds beneath it."""
    _check_live(rollout, "rolled back")
    return _step(rollout, "roll back", who, why, now_ms, stage=Stage.ROLLED_BACK, paused=False)


def finish(
    rollout: Rollout, known: Mapping[str, Rollout], config: Config, *, who: str, why: str, now_ms: int
) -> Rollout:
    """The rollout at its good end: what it changed is in the configuration, or later ones changed all of it.

    Args:
        known: all rollouts by name.

    Raises:
        RolloutError: it does not answer everybody yet, another one beneath it would hold again, or the configuration
            does not have what it changed.
    """
    _check_live(rollout, "finished")
    if rollout.stage is not Stage.ALL:
        raise RolloutError(f"{rollout.name}: is at the stage {rollout.stage}; it can be finished at 100")
    standing = [one for one in in_order(known.values()) if one.stage is Stage.ALL]
    place = [one.name for one in standing].index(rollout.name)
    for earlier in standing[:place]:
        if (path := shared(rollout.overrides, earlier.overrides)) is not None:
            raise RolloutError(f"{path}: what the rollout {earlier.name} makes of it would hold again; finish it first")
    over = merged(standing[place + 1 :])
    own = {path: value for path, value in rollout.overrides.items() if shared({path: value}, over) is None}
    if applied(config, own) != config:
        raise RolloutError(
            f"{rollout.name}: the configuration does not have its values yet, and everybody would get the old ones;"
            " put them in, restart job and workers, then finish it"
        )
    return _step(rollout, "finish", who, why, now_ms, stage=Stage.FINISHED, paused=False)


def restate(held: Rollout, *, who: str, now_ms: int) -> Rollout:
    """What holds, said again after a record that came too late: compaction must not leave that one alone."""
    return _step(held, "restate", who, "another transition came first", now_ms)


def follow(known: Mapping[str, Rollout], read: Rollout) -> dict[str, Rollout]:
    """The rollouts after one more record of the topic. What was written without having seen the newest is left out."""
    before = known.get(read.name)
    return dict(known) if before is not None and read.version <= before.version else {**known, read.name: read}


def to_control(rollout: Rollout) -> Control:
    """The record of the control topic."""
    last = rollout.history[-1]
    return Control(
        key=f"{COMMAND}/{rollout.name}",
        command=COMMAND,
        issued_ms=last.at_ms,
        issued_by=last.who,
        arguments={"state": msgspec.json.encode(rollout).decode()},
    )


def of_control(control: Control) -> Rollout | None:
    """The rollout in a record of the control topic; None where it carries another command.

    Raises:
        RolloutError: it carries none that this version of Forebay can read.
    """
    if control.command != COMMAND:
        return None
    try:
        return msgspec.json.decode(control.arguments.get("state", ""), type=Rollout)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RolloutError(f"{control.key[:80]!a}: holds no rollout that can be read here ({error})") from None


def merged(rollouts: Iterable[Rollout]) -> dict[str, str]:
    """What several rollouts change together; of a setting that two change, the later one's."""
    together: dict[str, str] = {}
    for rollout in _by_age(rollouts):
        together = laid_over(together, rollout.overrides)
    return together


def _by_age(rollouts: Iterable[Rollout]) -> list[Rollout]:
    return sorted(rollouts, key=lambda one: (one.started_ms, one.name))


def _in_force(live: Sequence[Rollout]) -> list[Rollout]:
    """Without those of which nothing is left."""
    gone = {one.name for one in superseded(live)}
    return [one for one in live if one.name not in gone]


def _check_live(rollout: Rollout, what: str) -> None:
    if not rollout.stage.live:
        raise RolloutError(f"{rollout.name}: is {rollout.stage} and cannot be {what}; start it anew")


def _check_combinations(name: str, overrides: Mapping[str, str], live: list[Rollout], config: Config) -> None:
    """A request may be in any of the live rollouts at once."""
    for count in range(len(live) + 1):
        for others in itertools.combinations(live, count):
            try:
                applied(config, laid_over(merged(others), overrides))
            except ConfigError as error:
                if not others:
                    raise
                beside = " and ".join(other.name for other in others)
                raise RolloutError(f"{name}: cannot work for those who are in {beside} too: {error}") from None


def _check_models(changed: Config, config: Config) -> None:
    for name, tier in changed.tiers.items():
        before = config.tiers[name]
        if tier.model == before.model:
            continue
        backend = config.models[tier.model].backend
        if backend is None:
            raise ConfigError(
                f"tiers.{name}.model: {tier.model!r} has no backend, so no worker can serve it; give it one"
            )
        if backend is Backend.VLLM and tier.model not in before.standby:
            raise ConfigError(
                f"tiers.{name}.model: {tier.model!r} runs in vLLM, which workers load at their start only; name it in"
                f" tiers.{name}.standby and restart the tier's workers first, or serve it behind an endpoint"
            )


def _step(
    rollout: Rollout,
    what: str,
    who: str,
    why: str,
    now_ms: int,
    *,
    stage: Stage | None = None,
    paused: bool | None = None,
) -> Rollout:
    stage = stage or rollout.stage
    step = Step(at_ms=now_ms, who=who[:_WHY_CHARS], what=what, stage=stage, why=why[:_WHY_CHARS])
    history = [*rollout.history, step]
    moved = what == "start" or stage is not rollout.stage
    return msgspec.structs.replace(
        rollout,
        version=rollout.version + 1,
        stage=stage,
        since_ms=now_ms if moved else rollout.since_ms,
        paused=rollout.paused if paused is None else paused,
        history=history[-HISTORY:],
        forgotten=rollout.forgotten + max(0, len(history) - HISTORY),
    )
