"""Kafka as tables: the one form in which PyFlink reads and writes headers, keys and topics.

Everything is `raw`: bytes go through as they are, and the records' own codec reads them.
"""

from collections.abc import Mapping, Sequence

from forebay_schemas.config import Config
from pyflink.datastream import DataStream
from pyflink.table import Schema, StreamTableEnvironment

from .kafka_access import java_access

_SOURCE_COLUMNS = """
    `value` BYTES,
    `headers` MAP<STRING, BYTES> METADATA,
    `topic` STRING METADATA VIRTUAL,
    `partition` INT METADATA VIRTUAL,
    `offset` BIGINT METADATA VIRTUAL
"""
_SINK_COLUMNS = """
    `topic` STRING METADATA,
    `key` BYTES,
    `value` BYTES,
    `headers` MAP<STRING, BYTES> METADATA
"""

_METADATA_EVERY_MS = 2_000
"""How soon topics are seen as they are. Kafka's default is 5 minutes, in which a sink would write to partitions that a
topic made anew does not have any more: each record waits there for two minutes, and then fails the job."""
_CLOSE_MS = 5_000
"""How long a task that is cancelled waits for a reader that waits for Kafka: a partition without a leader, a topic that
is gone. Flink's default is 30 s, in which no other job can begin."""
_UID_FORMAT = "table.exec.uid.format"
_USUAL_UIDS = "<id>_<transformation>"
"""Flink's default."""


def read_topics(
    tables: StreamTableEnvironment, name: str, topics: Sequence[str], config: Config, anew: Mapping[str, str]
) -> DataStream:
    """Rows of (value, headers, topic, partition, offset), from the committed offsets or the beginning.

    Args:
        anew: ids of topics that were made anew. Where they are read the source has another uid, and so takes no offsets
            from a checkpoint that knows the old ones.
    """
    options = {
        "topic": ";".join(topics),
        "format": "raw",
        "scan.startup.mode": "group-offsets",
        "properties.auto.offset.reset": "earliest",
        "properties.group.id": config.kafka.topics.job_group,
        "properties.isolation.level": "read_committed",  # results come in the workers' transactions
        "properties.max.partition.fetch.bytes": str(config.kafka.max_wire_bytes),
        "properties.fetch.max.wait.ms": "500",
        "properties.source.reader.close.timeout": str(_CLOSE_MS),
        "scan.topic-partition-discovery.interval": "10 s",
    }
    _create(tables, name, _SOURCE_COLUMNS, options, config)
    settings = tables.get_config()
    settings.set(_UID_FORMAT, "_".join([_USUAL_UIDS, *(anew[topic] for topic in topics if topic in anew)]))
    stream = tables.to_data_stream(tables.from_path(name))
    settings.set(_UID_FORMAT, _USUAL_UIDS)
    return stream


def write_topics(
    tables: StreamTableEnvironment, name: str, stream: DataStream, topics: Sequence[str], config: Config
) -> None:
    """Write rows of (topic, key, value, headers) to any of the topics."""
    options = {
        "topic": ";".join(topics),
        "key.format": "raw",
        "key.fields": "key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        # Exactly-once would hold every reply back until a checkpoint; repeats are removed by request and task id.
        "sink.delivery-guarantee": "at-least-once",
        "sink.partitioner": "default",  # by the key's hash: a reply key names the asker's partition
        "properties.linger.ms": "1",
        "properties.compression.type": "lz4",
        "properties.max.request.size": str(config.kafka.max_wire_bytes),
    }
    _create(tables, name, _SINK_COLUMNS, options, config)
    schema = (
        Schema.new_builder()
        .column("topic", "STRING")
        .column("key", "BYTES")
        .column("value", "BYTES")
        .column("headers", "MAP<STRING, BYTES>")
        .build()
    )
    statements = tables.create_statement_set()
    statements.add_insert(name, tables.from_data_stream(stream, schema))
    statements.attach_as_datastream()


def _create(
    tables: StreamTableEnvironment, name: str, columns: str, options: Mapping[str, str], config: Config
) -> None:
    everywhere = {
        "connector": "kafka",
        "properties.bootstrap.servers": config.kafka.bootstrap,
        "properties.metadata.max.age.ms": str(_METADATA_EVERY_MS),
    }
    given = {name: value.get_secret_value() for name, value in config.kafka.flink_settings.items()}
    properties = {f"properties.{name}": value for name, value in (java_access(config.kafka) | given).items()}
    pairs = ",\n".join(
        f"{_quoted(key)} = {_quoted(value)}" for key, value in {**everywhere, **options, **properties}.items()
    )
    tables.execute_sql(f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({pairs})")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
