"""What ends the work on a batch, beside what ends any other."""

import datetime as dt
from pathlib import Path

from forebay_schemas.errors import ForebayError, InvalidRequest
from forebay_schemas.records import BatchState


class UnknownBatch(ForebayError):
    """Kafka knows no batch of this id."""

    def __init__(self, batch_id: str, topic: str) -> None:
        super().__init__(f"{batch_id}: {topic} knows no such batch; `forebay batch list` shows those that there are")


class RepeatedName(InvalidRequest):
    """Two rows have one name.

    Attributes:
        place: of the second.
    """

    def __init__(self, name: str, first: str, place: str) -> None:
        super().__init__("custom_id", f"{name!a:.80} is in {first} and in {place}", "give each row a name of its own")
        self.place = place


class BatchTakenOver(ForebayError):
    """Another process publishes this batch, or took it back: there is one at a time, the newest."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(
            f"{batch_id}: another process has taken it over, to publish it or to take it back, or this one stood still"
            " for too long; what it sent stays sent, look at the status before you call again"
        )


class BatchEnded(ForebayError):
    """The batch is over, so nothing more can be done to it."""

    def __init__(self, state: BatchState, why: str) -> None:
        super().__init__(f"{state.batch_id}: {why}; submit the file as another run (--run), answers are in the caches")


class NothingToSend(ForebayError):
    """No row of the file makes a request that could be answered; nothing was published."""

    def __init__(self, first: str) -> None:
        super().__init__(f"no row of the file can be sent; the first problem is in {first}")


class ChangedFile(ForebayError):
    """The file is not the one that was submitted any more."""

    def __init__(self, state: BatchState, file: Path) -> None:
        super().__init__(
            f"{file}: is not the file that {state.batch_id} was made of, which was {state.source};"
            " give that one, wherever it is by now, with --file"
        )


def expired(state: BatchState) -> BatchEnded:
    """The batch's completion window ended before all of it was published."""
    ended = dt.datetime.fromtimestamp(state.deadline_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return BatchEnded(state, f"its completion window ended at {ended}")
