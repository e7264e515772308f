"""Rollouts: changed settings that a growing share of tenants or users gets, and how one moves from stage to stage.

All there is to know of a rollout is one record, which lies in the compacted control topic under its name. Everybody
reads it there; whoever moves a rollout writes the next version of its record. Pure: times and names are passed in.
"""

import hashlib
import itertools
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from .errors import ForebayError
from .records import Control

COMMAND = "rollout"
"""The command of the control topic that carries a rollout, under the key ``rollout/<name>``."""
EVENT = "rollout"
"""The event that tells of a transition."""

HISTORY = 50
"""Steps that are kept; of the older ones their number is."""
_WHY_CHARS = 300


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


def promote(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout in its next stage."""
    check_live(rollout, "promoted")
    after = _NEXT.get(rollout.stage)
    if after is None:
        raise RolloutError(
            f"{rollout.name}: answers everybody already; start the next one over it, or put its settings into the"
            " configuration, then finish it"
        )
    return stepped(rollout, "promote", who, why, now_ms, stage=after)


def pause(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout, to stay in its stage until somebody moves it."""
    check_live(rollout, "paused")
    if rollout.paused:
        raise RolloutError(f"{rollout.name}: is paused already")
    return stepped(rollout, "pause", who, why, now_ms, paused=True)


def resume(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout, to be moved by its guards again."""
    check_live(rollout, "resumed")
    if not rollout.paused:
        raise RolloutError(f"{rollout.name}: is not paused")
    return stepped(rollout, "resume", who, why, now_ms, paused=False)


def roll_back(rollout: Rollout, *, who: str, why: str, now_ms: int) -> Rollout:
    """The rollout at its end: nobody gets what it changed any more, but what holds beneath it."""
    check_live(rollout, "rolled back")
    return stepped(rollout, "roll back", who, why, now_ms, stage=Stage.ROLLED_BACK, paused=False)


def restate(held: Rollout, *, who: str, now_ms: int) -> Rollout:
    """What holds, said again after a record that came too late: compaction must not leave that one alone."""
    return stepped(held, "restate", who, "another transition came first", now_ms)


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


def check_live(rollout: Rollout, what: str) -> None:
    """Raises RolloutError: it is over, and cannot be ``what``, such as promoted."""
    if not rollout.stage.live:
        raise RolloutError(f"{rollout.name}: is {rollout.stage} and cannot be {what}; start it anew")


def stepped(
    rollout: Rollout,
    what: str,
    who: str,
    why: str,
    now_ms: int,
    *,
    stage: Stage | None = None,
    paused: bool | None = None,
) -> Rollout:
    """The next version of a rollout, with the step that led to it; stage and pause as they were unless given."""
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
