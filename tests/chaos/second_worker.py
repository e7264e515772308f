"""A worker beside that of the stack."""

import os
import sys
from collections.abc import Callable

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient
from forebay_ops.local.effective import free_ports
from forebay_ops.local.home import Home
from forebay_schemas.config import Config
from forebay_schemas.records import Lane

from ..samples import served
from .beside import Beside
from .breakable import SETTINGS


class SecondWorker(Beside):
    """It runs from ``join`` to ``leave``."""

    def __init__(self, config: Config, home: Home, admin: Callable[[], AdminClient]) -> None:
        super().__init__("second-worker", home)
        self._config, self._admin = config, admin
        (self._metrics_port,) = free_ports(1)

    def join(self, packages: str | None = None) -> None:
        """Start it, unless it runs.

        Args:
            packages: where Python finds another version's packages; absent: this one's.
        """
        if self._process is not None:
            return
        # An older one reads what people write, and does not know each setting that the stack's own file spells out.
        given = {
            "FOREBAY_CONFIG": str(SETTINGS),
            "FOREBAY_KAFKA__BOOTSTRAP": self._config.kafka.bootstrap,
            "FOREBAY_MODELS__TOLD__ENDPOINT__URL": str(self._config.models["told"].endpoint.url),
            "FOREBAY_METRICS__WORKER_PORT": str(self._metrics_port),
        }
        environment = os.environ | given | ({"PYTHONPATH": packages} if packages else {})
        self._start([sys.executable, "-m", "forebay_workers"], environment)

    def joined(self, packages: str | None = None) -> bool:
        """Starts it where it does not run; whether every group has settled with both workers in it."""
        self.join(packages)
        return self.members() == {2}

    def answered(self) -> float:
        """How many answers it gave, by its own count; 0 where it does not run."""
        replies = (one for one in served(self._metrics_port) if one.name == "forebay_replies_total")
        return sum(one.value for one in replies if one.labels["outcome"] == "ok")

    def members(self) -> set[int]:
        """How many members the groups of the workers have, 0 while one is not settled; one number where all have the
        same."""
        topics = self._config.kafka.topics
        names = [topics.workers_group(tier, lane) for tier in self._config.tiers for lane in Lane]
        try:
            groups = [told.result() for told in self._admin().describe_consumer_groups(names).values()]
        except KafkaException:
            return set()
        return {len(group.members) if group.state is ConsumerGroupState.STABLE else 0 for group in groups}
