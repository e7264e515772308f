"""What holds for everybody now, rollouts that answer all included, and which outcomes still tell something of it."""

from collections.abc import Mapping

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.live_rollouts import merged
from forebay_schemas.overrides import applied
from forebay_schemas.rollouts import Rollout, Stage

_OF_ROUTING = {"complexity_up_to", "priced_as"}
"""Settings of a tier that choose who answers, and do not change what it answers."""


class Standing:
    """The configuration as it stands.

    Args:
        config: what holds without rollouts.
        rollouts: all by name, those that are over too. Of several of one name the last is known.

    Attributes:
        config: with the rollouts that answer everybody.
    """

    def __init__(self, config: Config, rollouts: Mapping[str, Rollout]) -> None:
        self._base = config
        self._arms = {rollout.arm: rollout for rollout in rollouts.values()}
        self._of: dict[str | None, Config | None] = {None: config}
        self.config = applied(config, merged(one for one in rollouts.values() if one.stage is Stage.ALL))

    def routes(self, arm: str | None) -> bool:
        """Whether requests of an arm were handled as all are now."""
        return self._config(arm) == self.config

    def answers(self, arm: str | None, tier: str | None, model_id: str | None) -> bool:
        """Whether a tier's answer is one that it could give now: by the same model, under the same prompt and limits.

        Of settings that changed without a rollout the model alone can be told.
        """
        then, now = self._config(arm), self.config
        if then is None or tier not in now.tiers or tier not in then.tiers or model_id != now.tiers[tier].model:
            return False
        return then.tiers[tier].model_dump(exclude=_OF_ROUTING) == now.tiers[tier].model_dump(exclude=_OF_ROUTING)

    def _config(self, arm: str | None) -> Config | None:
        """What held in an arm; None where one of its rollouts is not known any more, or does not fit any more."""
        if arm not in self._of:
            found = [self._arms.get(name) for name in (arm or "").split("+")]
            known = [rollout for rollout in found if rollout is not None]
            try:
                self._of[arm] = applied(self._base, merged(known)) if len(known) == len(found) else None
            except ConfigError:
                self._of[arm] = None
        return self._of[arm]
