"""Batches: a file of rows as requests on the batch lane, each sent once and answered once, whoever crashes."""

from .batch import Batch, known_batches
from .errors import BatchEnded, BatchTakenOver, ChangedFile, NothingToSend, UnknownBatch
from .planning import BatchFields
from .projection import Projection
from .results import Written
from .status import BatchStatus

__all__ = [
    "Batch",
    "BatchEnded",
    "BatchFields",
    "BatchStatus",
    "BatchTakenOver",
    "ChangedFile",
    "NothingToSend",
    "Projection",
    "UnknownBatch",
    "Written",
    "known_batches",
]
