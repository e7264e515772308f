"""The topics that the job reads, and which of them were deleted and made anew.

What a source remembers of a topic, its offsets, means nothing in one of the same name that was made anew: Flink would
go on from them, and skip what lies below. So a job is told which topics are others than they were, and takes no offsets
of theirs from a checkpoint; a job that was not told so reads the group's, which are set back before.

What is known lies beside the checkpoints, where those are in a folder, so that another keeper knows it too.
"""

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient  # pyright: ignore[reportPrivateImportUsage]
from forebay_schemas.config import Config
from forebay_schemas.topic_probe import TopicProbe

from .topics_used import topics_to_read

_TIMEOUT_S = 2.0
_FILE = "topics.json"
_JOBS = 20
"""So many are known, the last ones: checkpoints of older ones are gone."""
_JOB_CHARS = 6
"""Of a job's id, in the name of its savepoint."""

logger = logging.getLogger(__name__)


class _Known(msgspec.Struct):
    """What there is to remember.

    Attributes:
        cluster: of the brokers. Another one has other ids, and the same records where it is a mirror.
        ids: of each topic, all that it had.
        anew: the ids of those that were made anew since the first look that told of them.
        submitted: what of that the last submission was told.
        jobs: what each job was told.
    """

    cluster: str | None = None
    ids: dict[str, list[str]] = msgspec.field(default_factory=dict)
    anew: dict[str, str] = msgspec.field(default_factory=dict)
    submitted: dict[str, str] = msgspec.field(default_factory=dict)
    jobs: dict[str, dict[str, str]] = msgspec.field(default_factory=dict)


class TopicsRead:
    """Looks at them now and then; a topic counts as made anew when two looks in a row tell the same id that none told
    before: a broker that lags behind may still tell of the old one.

    Args:
        folder: where to remember it; None: nowhere.
    """

    def __init__(self, config: Config, folder: Path | None) -> None:
        self._names = topics_to_read(config)
        self._kafka = config.kafka
        self._probe = TopicProbe(config.kafka)
        self._file = None if folder is None else folder / _FILE
        self._suspected: dict[str, str] = {}
        self._known = self._read()

    def look(self) -> bool:
        """See which are others than before. Takes two seconds where brokers do not answer.

        Returns:
            Whether they told anything.

        Raises:
            KafkaException: a setting is none that librdkafka takes.
        """
        told = self._probe.ids(self._names, _TIMEOUT_S)
        cluster = self._probe.cluster(_TIMEOUT_S) if told else None
        if cluster is None:
            self._probe = TopicProbe(self._kafka)  # a client may forget the only broker (librdkafka 2.16)
            return False
        before = msgspec.json.encode(self._known)
        if self._known.cluster not in (None, cluster):
            logger.warning("the brokers are another cluster's: its topics are read from where the group is there")
            self._known.ids, self._suspected = {}, {}
        self._known.cluster = cluster
        known = self._known.ids
        other = {topic: one for topic, one in told.items() if one not in known.setdefault(topic, [one])}
        changed = {topic: one for topic, one in other.items() if self._suspected.get(topic) == one}
        self._suspected = other
        for topic, one in changed.items():
            known[topic].append(one)
        self._known.anew |= changed
        if before != msgspec.json.encode(self._known):
            self._write()
        return True

    def runs(self, job_id: str) -> bool:
        """Note that this job is there; whether it was told of all that were made anew."""
        if job_id not in self._known.jobs:
            jobs = [*self._known.jobs.items(), (job_id, dict(self._known.submitted))]
            self._known.jobs = dict(jobs[-_JOBS:])
            self._write()
        return self._known.jobs[job_id] == self._known.anew

    def submit(self, checkpoint: str | None) -> dict[str, str]:
        """What to tell a job that is submitted from a checkpoint: the ids of the topics that were made anew.

        Those of which the checkpoint does not know how far they were read are read from the beginning, whatever was
        committed meanwhile. The job may not run now.

        Raises:
            KafkaException: the brokers do not take it.
        """
        anew = dict(self._known.anew)
        known = self._known.jobs.get(self._job_of(checkpoint) or "", {})
        if unread := [topic for topic, one in anew.items() if known.get(topic) != one]:
            self._rewind(unread)
        self._known.submitted = anew
        self._write()
        return anew

    def _rewind(self, topics: Collection[str]) -> None:
        try:
            counts = {topic: self._probe.state(topic, _TIMEOUT_S).partitions for topic in topics}
            places = [(topic, partition) for topic, count in counts.items() for partition in range(count)]
            _rewind(self._kafka.client(), self._kafka.topics.job_group, places)
        except KafkaException:
            self._probe = TopicProbe(self._kafka)
            raise

    def _job_of(self, checkpoint: str | None) -> str | None:
        """The job that made a checkpoint or savepoint."""
        *_, folder, name = ("", "", *(checkpoint or "").rstrip("/").split("/"))
        if not name.startswith("savepoint-"):
            return folder
        begins = name.removeprefix("savepoint-")[:_JOB_CHARS]
        return next((job for job in reversed(self._known.jobs) if job.startswith(begins)), None)

    def _read(self) -> _Known:
        if self._file is not None:
            try:
                return msgspec.json.decode(self._file.read_bytes(), type=_Known)
            except FileNotFoundError:
                pass
            except (OSError, msgspec.MsgspecError) as error:
                logger.warning("%s cannot be read, and is begun anew (%s)", self._file, error)
        return _Known()

    def _write(self) -> None:
        if self._file is None:
            return
        part = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.encode(self._known))
            part.replace(self._file)
        except OSError as error:  # the job is kept all the same
            logger.warning("what is known of topics cannot be written to %s (%s)", self._file, error)
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def _rewind(settings: dict[str, Any], group: str, partitions: Collection[tuple[str, int]]) -> None:
    admin = AdminClient(settings)  # held until it has told: without it nobody would
    places = [TopicPartition(topic, partition, 0) for topic, partition in partitions]
    told = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group, places)], request_timeout=_TIMEOUT_S
    )[group]
    for place in told.result().topic_partitions:
        if place.error is not None:
            raise KafkaException(place.error)
