"""What a service imports: publish requests to Forebay, ask and wait, stream answers, consume replies, give feedback.

>>> from forebay_client import Client
>>> with Client(tenant="acme") as client:
...     print(client.ask("How do I reset my password?", category="support").text)
"""

import logging

from forebay_schemas.errors import ConfigError, ErrorCode, ForebayError, InvalidRequest, RecordError
from forebay_schemas.invalidation import InvalidationOutcome
from forebay_schemas.records import (
    CacheOptions,
    CachePolicy,
    CacheScope,
    CacheStatus,
    FeedbackSource,
    Lane,
    Message,
    Reply,
    Request,
    Verdict,
)

from .asyncio_client import AsyncClient
from .batch import Batch, BatchEnded, BatchStatus, BatchTakenOver, ChangedFile, NothingToSend, UnknownBatch
from .client import Client
from .errors import (
    BrokerUnavailable,
    ClientClosed,
    DeadlineExceeded,
    InvalidationPending,
    ReplyTimeout,
    RequestCancelled,
    RequestFailed,
    RequestTooLarge,
    StreamRestarted,
)
from .invalidation import Invalidated
from .migration import Answer, AsyncMigration, Migration, Mirrored, Source
from .streams import AsyncStream, Stream

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncMigration",
    "AsyncStream",
    "Batch",
    "BatchEnded",
    "BatchStatus",
    "BatchTakenOver",
    "BrokerUnavailable",
    "CacheOptions",
    "CachePolicy",
    "CacheScope",
    "CacheStatus",
    "ChangedFile",
    "Client",
    "ClientClosed",
    "ConfigError",
    "DeadlineExceeded",
    "ErrorCode",
    "FeedbackSource",
    "ForebayError",
    "InvalidRequest",
    "Invalidated",
    "InvalidationOutcome",
    "InvalidationPending",
    "Lane",
    "Message",
    "Migration",
    "Mirrored",
    "NothingToSend",
    "RecordError",
    "Reply",
    "ReplyTimeout",
    "Request",
    "RequestCancelled",
    "RequestFailed",
    "RequestTooLarge",
    "Source",
    "Stream",
    "StreamRestarted",
    "UnknownBatch",
    "Verdict",
]

# A library leaves it to its user where log lines go; without this Python would print the brokers' troubles.
logging.getLogger(__name__).addHandler(logging.NullHandler())
