"""What each topic is for: which records are on it, who writes and who reads them, by which key and with which headers.

`forebay asyncapi` makes an AsyncAPI document of this, of the configuration and of the Avro schemas.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from .records import (
    Audit,
    BatchState,
    Chunk,
    Control,
    DeadLetter,
    Event,
    Feedback,
    Record,
    Reply,
    Request,
    Result,
    Task,
)
from .topics import BUCKET, DEADLINE, REPLY_KEY, REPLY_TOPIC, REQUEST_ID, TASK, TENANT, TRACEPARENT


class Part(StrEnum):
    """Who writes and reads."""

    SERVICES = "services"
    JOB = "job"
    WORKERS = "workers"
    OPERATORS = "operators"


PARTS = {
    Part.SERVICES: "What asks: services, nightly batches and the gateway.",
    Part.JOB: "The Flink job, which answers from its caches and hands the rest to the tiers.",
    Part.WORKERS: "The workers of the tiers, which generate.",
    Part.OPERATORS: "People and what runs beside the pipeline: the command line, the ledger, the rollout controller.",
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One topic, or those of all tiers.

    Attributes:
        name: as in ``topics.Topics``; ``tier_batch`` is ``tier`` of the batch lane.
        summary: what is on it.
        records: the kinds of its values.
        key: what the Kafka key is.
        headers: those that its records may have.
        answered_on: the channel of the answers, where there are any.
    """

    name: str
    summary: str
    records: tuple[type[Record], ...]
    written_by: tuple[Part, ...]
    read_by: tuple[Part, ...]
    key: str
    headers: tuple[str, ...] = ()
    answered_on: str | None = None


_OF_REPLY = (REQUEST_ID, TENANT, TRACEPARENT)
_REPLY_KEY = f"What the request's header {REPLY_KEY} says, else its id."

_REQUESTS = Channel(
    "requests",
    "Requests that somebody waits for.",
    (Request,),
    written_by=(Part.SERVICES,),
    read_by=(Part.JOB, Part.OPERATORS),
    key="Any; the client takes the request's id.",
    headers=(REQUEST_ID, TENANT, REPLY_TOPIC, REPLY_KEY, DEADLINE, TRACEPARENT),
    answered_on="replies",
)
_TIER = Channel(
    "tier",
    "Generations that are asked of the workers of a tier.",
    (Task,),
    written_by=(Part.JOB, Part.WORKERS),
    read_by=(Part.WORKERS,),
    key="Digest of the request's static turns, so that equal ones meet at one worker; without any, the task's id.",
    headers=(REQUEST_ID, TENANT, DEADLINE, BUCKET, TASK, TRACEPARENT),
)

CHANNELS = (
    _REQUESTS,
    replace(_REQUESTS, name="requests_batch", summary="Requests of the batch lane, which have until the next day."),
    Channel(
        "replies",
        "One reply to each request, an answer or an error. The job may write one twice after a failure of its own:"
        " who reads passes over a tenant and request id that it had before.",
        (Reply,),
        written_by=(Part.JOB, Part.WORKERS),
        read_by=(Part.SERVICES, Part.OPERATORS),
        key=_REPLY_KEY,
        headers=_OF_REPLY,
    ),
    Channel(
        "replies_stream",
        "Pieces of the answers to requests that have `stream`. A courtesy: the reply holds the whole text, and may"
        " overtake the last pieces.",
        (Chunk,),
        written_by=(Part.JOB, Part.WORKERS),
        read_by=(Part.SERVICES,),
        key=_REPLY_KEY,
        headers=_OF_REPLY,
    ),
    Channel(
        "feedback",
        "What was thought of answers.",
        (Feedback,),
        written_by=(Part.SERVICES,),
        read_by=(Part.JOB, Part.OPERATORS),
        key="Id of the request, so that what is said of it keeps its order.",
        headers=(REQUEST_ID, TENANT),
    ),
    Channel(
        "batches",
        "How far the file of each batch is published. Compacted: the latest of each stays, for 90 days.",
        (BatchState,),
        written_by=(Part.SERVICES,),
        read_by=(Part.SERVICES,),
        key="`batch_id`, of which the latest counts.",
    ),
    Channel(
        "control",
        "Commands: cancellations, invalidations, forgetting, rollouts. Compacted, so that the state of rollouts stays.",
        (Control,),
        written_by=(Part.SERVICES, Part.JOB, Part.OPERATORS),
        read_by=(Part.JOB, Part.WORKERS, Part.OPERATORS),
        key="`key` of the command, of which the latest counts.",
    ),
    Channel(
        "events",
        "Acknowledgements of commands, and what operators should know of.",
        (Event,),
        written_by=(Part.JOB, Part.WORKERS, Part.OPERATORS),
        read_by=(Part.SERVICES, Part.OPERATORS),
        key="What it is about: the id of a command or a request, the digest of an entry, the name of a rollout.",
        headers=_OF_REPLY,
    ),
    Channel(
        "dead",
        "Records that cannot be answered, with their bytes and the reason.",
        (DeadLetter,),
        written_by=(Part.JOB, Part.WORKERS),
        read_by=(Part.OPERATORS,),
        key="Where the record lay, as topic/partition/offset, or the request's id; absent where neither is known.",
        headers=_OF_REPLY,
    ),
    _TIER,
    replace(_TIER, name="tier_batch", summary="The same of the batch lane."),
    Channel(
        "results",
        "What workers tell the job of tasks, in the transaction of the reply.",
        (Result,),
        written_by=(Part.WORKERS,),
        read_by=(Part.JOB,),
        key="`bucket` of the task.",
        headers=(REQUEST_ID, TENANT, BUCKET, TRACEPARENT),
    ),
    Channel(
        "audit",
        "Comparisons with the answers of other tiers, and the replies to what the job asks for them.",
        (Audit, Reply),
        written_by=(Part.JOB, Part.WORKERS),
        read_by=(Part.OPERATORS,),
        key="Id of the request.",
        headers=_OF_REPLY,
    ),
)
"""Those that services meet come first."""
