"""Which arm a request is in, and the settings that hold there."""

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.live_rollouts import check_beside, in_order, left_of, merged
from forebay_schemas.overrides import applied
from forebay_schemas.records import Request
from forebay_schemas.rollouts import Rollout, Stage

ARM = "\x1e"
"""Between an owner and an arm: names hold no control characters."""

logger = logging.getLogger(__name__)


class _Live(NamedTuple):
    """What holds at a moment, never half of the next."""

    rollouts: tuple[Rollout, ...]
    configs: dict[str, Config]
    """By arm, as they were worked out."""


class Arms:
    """The live rollouts over one configuration. Replaced whole by one thread, and read by many.

    An arm is the rollouts that a request is in, as ``Reply.arm`` names it; None stands for none.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._live = _Live((), {})

    def follow(self, rollouts: Iterable[Rollout]) -> None:
        """From now on these rollouts hold. One that fits neither configuration nor those before it changes nothing."""
        fitting: list[Rollout] = []
        for rollout in in_order(rollouts):
            try:
                check_beside(rollout.name, rollout.overrides, fitting)
                applied(self._config, merged([*fitting, rollout]))
            except ForebayError as error:
                logger.error("the rollout %s changes nothing here: %s", rollout.name, error)
            else:
                fitting.append(rollout)
        self._live = _Live(tuple(fitting), {})

    def arm_of(self, request: Request) -> str | None:
        """The arm of a request: the same for all of its unit until a rollout ends or takes in more."""
        taken = [one for one in self._live.rollouts if one.takes(request.tenant, request.user)]
        return "+".join(one.arm for one in (left_of(taken) if len(taken) > 1 else taken)) or None

    def shadows(self) -> Sequence[Rollout]:
        """The rollouts whose answers are compared and shown to nobody."""
        return [one for one in self._live.rollouts if one.stage is Stage.SHADOW]

    def config(self, arm: str | None) -> Config:
        """The configuration that holds in an arm; of rollouts that are over nothing is left in it."""
        if arm is None:
            return self._config
        live = self._live
        if arm not in live.configs:
            live.configs[arm] = self._applied(live, arm)
        return live.configs[arm]

    def overrides(self, arm: str | None) -> dict[str, str]:
        """What an arm changes, as in ``Task.overrides``; empty once its rollouts are over."""
        return {} if arm is None or self.config(arm) is self._config else _overrides(self._live, arm)

    def knows(self, arm: str | None) -> bool:
        """Whether what an arm answers now is by all of its rollouts: none is over, unknown as yet, or does not fit."""
        live = {rollout.arm for rollout in self._live.rollouts}
        return arm is None or (live.issuperset(arm.split("+")) and self.config(arm) is not self._config)

    def stood_in(self, arm: str | None, tier: str, model: str) -> bool:
        """Whether it was not the model that an arm gives to a tier which answered there."""
        own, here = (config.tiers.get(tier) for config in (self._config, self.config(arm)))
        return own is not None and here is not None and own.model != here.model != model

    def _applied(self, live: _Live, arm: str) -> Config:
        try:
            return applied(self._config, _overrides(live, arm))
        except ConfigError as error:  # each fits, and so do all together, but not these
            logger.error("the arm %s is answered by the configuration alone: %s", arm, error)
            return self._config


def _overrides(live: _Live, arm: str) -> dict[str, str]:
    named = arm.split("+")
    return merged([rollout for rollout in live.rollouts if rollout.arm in named])


def both(arm: str | None, other: str) -> str:
    """The arm of what is in both."""
    return other if arm is None else f"{arm}+{other}"


def tenant_owner(tenant: str) -> str:
    """A tenant as the owner of answers, and of what is learned of reusing them."""
    return f"tenant:{tenant}"


def owner_in(owner: str, arm: str | None) -> str:
    """Whose answers a request shares, as its arm keeps them apart: what is learned of reuse is learned in each arm."""
    return owner if arm is None else f"{owner}{ARM}{arm}"


def arm_in(owner: str) -> str | None:
    """The arm in what ``owner_in`` made of it."""
    return owner.partition(ARM)[2] or None
