"""Whether the brokers are there."""

import asyncio
import logging
from functools import cached_property

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from forebay_schemas.config import Config

_ANSWER_WITHIN_S = 2.0

_log = logging.getLogger(__name__)


class Brokers:
    """Asks them, over a connection that is made when they are first asked."""

    def __init__(self, config: Config) -> None:
        self._config = config

    async def know_the_topic(self) -> bool:
        """Whether requests could be published."""
        return await asyncio.to_thread(self._ask)

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(self._config.kafka.client(client_id="forebay-gateway"), logger=_log)

    def _ask(self) -> bool:
        name = self._config.kafka.topics.requests
        try:
            topic = self._admin.list_topics(name, timeout=_ANSWER_WITHIN_S).topics[name]
        except KafkaException:
            return False
        return topic.error is None
