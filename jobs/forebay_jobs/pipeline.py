"""The graph of the job, from top to bottom.

requests ─► intake ─┬─ exact hit, error ──────────────────────────────────────► replies, dead letters
                    └─ arrival ─ by bucket ─► desk ─ joined, by meaning ──────► replies
results ─────────────────────── by bucket ─►      ├─ leader ─────────────────► a tier's tasks
control ── to all buckets, or to one ──────►      ├─ invalidation ───────────► events
feedback ────────────────────── by bucket ─►      └─ entry in quarantine ────► events
"""

from collections.abc import Mapping
from typing import Any

from forebay_schemas.config import Config
from forebay_schemas.records import Lane
from forebay_schemas.topics import BUCKET
from pyflink.common import Row, Types
from pyflink.datastream import DataStream
from pyflink.table import StreamTableEnvironment

from .kafka_tables import read_topics, write_topics
from .operators.control import ControlOperator
from .operators.desk import DeskOperator
from .operators.feedback import FeedbackOperator
from .operators.intake import IntakeOperator
from .operators.rows import DESK_ITEM, OUTGOING, RESULT, TO_DESK
from .topics_used import feedback_topics, request_topics, written_topics


def build(tables: StreamTableEnvironment, config: Config, anew: Mapping[str, str]) -> None:
    """Add the whole job to an environment. Names and uids are stable, so that state survives a change of graph.

    Args:
        anew: ids of topics that were made anew; of those nothing is remembered.
    """
    # Decode, validate, and answer what was asked before. Each lane has its own intake, so that batch requests
    # can be held back without holding back anybody else.
    interactive = _intake(tables, config, Lane.INTERACTIVE, anew)
    batch = _intake(tables, config, Lane.BATCH, anew)

    # What workers finished, by the bucket that their task named.
    results = (
        read_topics(tables, "results", [config.kafka.topics.results], config, anew)
        .map(_result_to_desk, output_type=DESK_ITEM)
        .name("results")
        .uid("results")
    )

    # Requests that are taken back, and answers that hold no longer. Like requests they are read from where the last
    # job stopped: what was asked while none ran is read later, and so is what was taken back.
    commands = (
        read_topics(tables, "control", [config.kafka.topics.control], config, anew)
        .process(ControlOperator(config), output_type=DESK_ITEM)
        .name("control")
        .uid("control")
    )

    # What was thought of answers: what is complained about teaches the policies that reuse it.
    feedback = (
        read_topics(tables, "feedback", feedback_topics(config), config, anew)
        .process(FeedbackOperator(config), output_type=DESK_ITEM)
        .name("feedback")
        .uid("feedback")
    )

    # Equal requests meet in one bucket, and so do a task and its result: join, look up by meaning, dispatch.
    desk = (
        interactive.get_side_output(TO_DESK)
        .union(batch.get_side_output(TO_DESK), results, commands, feedback)
        .key_by(lambda row: row.bucket, key_type=Types.STRING())
        .process(DeskOperator(config), output_type=OUTGOING)
        .name("desk")
        .uid("desk")
    )

    # Replies, tasks, commands, events and dead letters, each to the topic it names. Each with a sink of its own: in one
    # of all, exact hits would wait at every checkpoint until the desk has worked off what lies before its barrier.
    for name, stream in (("interactive", interactive), ("batch", batch), ("desk", desk)):
        write_topics(tables, f"from_{name}", stream, written_topics(config), config)


def _intake(tables: StreamTableEnvironment, config: Config, lane: Lane, anew: Mapping[str, str]) -> DataStream:
    name = f"intake_{lane}"
    return (
        read_topics(tables, f"requests_{lane}", request_topics(config, lane), config, anew)
        .process(IntakeOperator(config, lane), output_type=OUTGOING)
        .name(name)
        .uid(name)
    )


def _result_to_desk(row: Any) -> Row:
    bucket = (row.headers or {}).get(BUCKET) or b""
    return Row(bucket=bytes(bucket).decode(errors="replace"), kind=RESULT, payload=row.value or b"")
