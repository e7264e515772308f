"""The settings that a task is to be answered by: its worker's own, with what its rollouts change."""

import logging
from collections import OrderedDict

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.overrides import applied
from forebay_schemas.records import Task

_HELD = 64
"""Configurations that are kept; few rollouts are live at a time."""

_log = logging.getLogger(__name__)


class ArmConfigs:
    """The configurations of the arms of late, by what their tasks change."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._configs: OrderedDict[frozenset[tuple[str, str]], Config] = OrderedDict()

    def of(self, task: Task) -> Config:
        """What holds for a task. A worker whose own configuration does not know what a rollout names (it is older than
        the job's) answers by its own alone: nothing is lost, and the reply names the model that answered."""
        if not task.overrides:
            return self._config
        key = frozenset(task.overrides.items())
        if key not in self._configs:
            self._configs[key] = self._applied(task)
            if len(self._configs) > _HELD:
                self._configs.popitem(last=False)
        self._configs.move_to_end(key)
        return self._configs[key]

    def model(self, task: Task | None, tier: str) -> str:
        """The model that a tier asks first for a task; None: one that cannot be read."""
        return (self.of(task) if task else self._config).tiers[tier].model

    def _applied(self, task: Task) -> Config:
        try:
            return applied(self._config, task.overrides)
        except ConfigError as error:
            _log.error(
                "tasks of %s are answered without it, restart this worker with what it needs: %s", task.arm, error
            )
            return self._config
