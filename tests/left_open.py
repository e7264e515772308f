"""Transactions that a broker which is alone left open for ever when it was killed: docs/chaos.md tells how that comes.

No client of another language than Java's can end them, so Java's own is called, as `kafka-transactions.sh` does.
"""

import time
from pathlib import Path
from typing import Any

from forebay_ops.local.home import Home
from forebay_ops.local.servers import kafka_class_path
from forebay_schemas.config import Config

from .java import running_jvm

_MARKERS_SKIPPED = b"these partitions are likely deleted already and hence can be skipped"
_OPEN_S = 20.0
"""Twice as long as a transaction of the pipeline may last."""


def may_be_left_open(log: Path, since: int) -> bool:
    """Whether the broker's log says from a place on that it took partitions of a transaction for deleted."""
    with log.open("rb") as file:
        file.seek(since)
        return _MARKERS_SKIPPED in file.read()


def abort_left_open(config: Config, home: Home) -> int:
    """End what has been open for longer than any transaction may be; returns on how many partitions."""
    with running_jvm(kafka_class_path(home)) as jvm:
        return _abort(jvm, config)


def _abort(jvm: Any, config: Config) -> int:
    clients = jvm.org.apache.kafka.clients.admin
    settings = jvm.java.util.Properties()
    settings.put("bootstrap.servers", config.kafka.bootstrap)
    admin, aborted = clients.Admin.create(settings), 0
    try:
        internal = clients.ListTopicsOptions().listInternal(True)
        topics = admin.describeTopics(admin.listTopics(internal).names().get()).allTopicNames().get()
        for name in topics:
            for number in range(len(topics[name].partitions())):
                place = jvm.org.apache.kafka.common.TopicPartition(name, number)
                for one in admin.describeProducers([place]).partitionResult(place).get().activeProducers():
                    idle_s = time.time() - one.lastTimestamp() / 1000
                    if one.currentTransactionStartOffset().isPresent() and idle_s > _OPEN_S:
                        epoch = one.coordinatorEpoch().orElse(-1)
                        ended = clients.AbortTransactionSpec(place, one.producerId(), one.producerEpoch(), epoch)
                        admin.abortTransaction(ended).all().get()
                        aborted += 1
    finally:
        admin.close()
    return aborted
