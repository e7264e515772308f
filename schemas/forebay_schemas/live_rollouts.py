"""The live rollouts: which may be beside each other, what they change together, how one comes and goes among them."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from .config import Config
from .errors import ConfigError, ForebayError
from .overrides import applied, laid_over, paths, shared
from .rollouts import Guards, Rollout, RolloutError, Stage, Unit, check_live, stepped
from .tiers import Backend

MOST_LIVE = 4
"""Rollouts at a time, without the superseded ones: all of their combinations are checked at the start of each, and each
has caches of its own."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


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
    return stepped(rollout, "start", who, why, now_ms, stage=stage)


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
    check_live(rollout, "finished")
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
    return stepped(rollout, "finish", who, why, now_ms, stage=Stage.FINISHED, paused=False)


def in_order(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Those that are live, as they were started: who comes first, holds."""
    return _by_age(one for one in rollouts if one.stage.live)


def merged(rollouts: Iterable[Rollout]) -> dict[str, str]:
    """What several rollouts change together; of a setting that two change, the later one's."""
    together: dict[str, str] = {}
    for rollout in _by_age(rollouts):
        together = laid_over(together, rollout.overrides)
    return together


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


def _by_age(rollouts: Iterable[Rollout]) -> list[Rollout]:
    return sorted(rollouts, key=lambda one: (one.started_ms, one.name))


def _in_force(live: Sequence[Rollout]) -> list[Rollout]:
    """Without those of which nothing is left."""
    gone = {one.name for one in superseded(live)}
    return [one for one in live if one.name not in gone]


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
