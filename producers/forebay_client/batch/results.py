"""Writes what became of a batch: OpenAI's output and error files, or the input with a new column."""

import csv
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from forebay_schemas import batches
from forebay_schemas.codec import Codec
from forebay_schemas.errors import ErrorCode, ForebayError, InvalidRequest, RecordError
from forebay_schemas.records import Reply, ReplyError

from ..openai_format import completion, error_body, http_status
from ..preparing import Preparation
from .journal import Journal
from .rows import Row, Source, parquet_module
from .sending import prepare
from .status import BatchStatus

_GROUP_ROWS = 10_000
"""Of one row group of Parquet; so many are held at once."""
_TOLD_EVERY = 10_000
_OUT_COLUMN = "answer"
_ENDED = {ErrorCode.DEADLINE_EXCEEDED: "batch_expired", ErrorCode.CANCELLED: "batch_cancelled"}
"""What OpenAI calls the end of a row that was not worked on."""
_WHY = {
    ErrorCode.DEADLINE_EXCEEDED: "the completion window of the batch ended before this row was answered",
    ErrorCode.CANCELLED: "the batch was taken back before this row was answered",
}


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the files.

    Attributes:
        status: how the batch stood.
        answered: rows with an answer.
        failed: rows that ended in an error.
        unanswered: rows that are in no file yet; in a table their cell is empty.
    """

    status: BatchStatus
    output: Path
    errors: Path
    answered: int
    failed: int
    unanswered: int


class Results:
    """What each row came to."""

    def __init__(
        self, status: BatchStatus, source: Source, journal: Journal, codec: Codec, preparation: Preparation
    ) -> None:
        self._status = status
        self._state = status.state
        self._source = source
        self._journal = journal
        self._codec = codec
        self._preparation = preparation

    def write(self, output: Path, errors: Path, out_column: str | None, told: Callable[[int], object]) -> Written:
        """Write both files anew, in the order of the rows; they take the place of those before when they are whole.

        Args:
            out_column: of CSV and Parquet, where the answers go; None: ``answer``.
            told: of the rows that were written, now and then.

        Raises:
            InvalidRequest: the file has such a column already, or none; or one file would take the place of another.
            ForebayError: a file cannot be written.
        """
        _check_apart(output=output, errors=errors, file=self._source.file)
        answered = failed = row_number = 0
        with ExitStack() as files:
            put_answer = files.enter_context(_output(output, self._source, out_column))
            put_error = files.enter_context(_json_lines(errors))
            for row, outcome in self._outcomes():
                put_answer(row, outcome if isinstance(outcome, Reply) else None)
                if isinstance(outcome, Reply):
                    answered += 1
                elif outcome is not None:
                    put_error(_error_line(self._state.batch_id, row, outcome))
                    failed += 1
                row_number = row.number
                if row_number % _TOLD_EVERY == 0:
                    told(row_number)
        unanswered = row_number - answered - failed
        return Written(
            status=self._status,
            output=output,
            errors=errors,
            answered=answered,
            failed=failed,
            unanswered=unanswered,
        )

    def _outcomes(self) -> Iterator[tuple[Row, Reply | ReplyError | None]]:
        replies = self._journal.replies()
        number, value = next(replies, (0, b""))
        for row in self._source.rows():
            while number and number < row.number:
                number, value = next(replies, (0, b""))
            if number == row.number:
                reply = self._codec.decode(value, Reply)
                yield row, reply.error or reply
            else:
                yield row, self._without_reply(row)

    def _without_reply(self, row: Row) -> ReplyError | None:
        """Why a row has none: it was refused, or its batch ended before. None where one may come."""
        ended = self._status.ended
        missed = ReplyError(code=ended, message=_WHY[ended], retryable=True) if ended else None
        if row.number > self._state.read:
            return missed
        try:
            prepare(row, self._state, self._preparation)
        except RecordError as error:
            return ReplyError(code=error.code, message=str(error), retryable=False)
        if not self._status.complete:
            return missed if self._status.over else None
        message = "was refused when the batch was published, and could be now; submit it again"
        return ReplyError(code=ErrorCode.INVALID_REQUEST, message=message, retryable=True)


Put = Callable[[Row, Reply | None], object]


def _check_apart(**files: Path) -> None:
    """See that no two names mean one file, also by a link or another way to it."""
    for (first, one), (second, other) in itertools.combinations(files.items(), 2):
        if one.resolve() == other.resolve():
            raise InvalidRequest(first, f"is {one}, which is {second} too", "name another file")


@contextmanager
def _output(file: Path, source: Source, out_column: str | None) -> Iterator[Put]:
    if source.columns is None:
        if out_column is not None:
            raise InvalidRequest("out_column", f"does not fit {source.file.name}, which has no columns", "leave it out")
        with _json_lines(file) as put:
            yield lambda row, reply: put(_answer_line(row, reply)) if reply else None
        return
    out_column = out_column or _OUT_COLUMN
    if out_column in source.columns:
        raise InvalidRequest("out_column", f"{out_column!a} is a column of the file already", "choose another name")
    table = _parquet if source.file.suffix.lower() == ".parquet" else _csv
    with table(file, source, out_column) as put_cells:
        yield lambda row, reply: put_cells({**(row.cells or {}), out_column: reply.text if reply else None})


@contextmanager
def _csv(file: Path, source: Source, out_column: str) -> Iterator[Callable[[dict[str, Any]], object]]:
    with _whole(file) as part, part.open("w", newline="", encoding="utf-8") as text:
        delimiter = "\t" if source.file.suffix.lower() == ".tsv" else ","
        writer = csv.DictWriter(
            text, [*(source.columns or ()), out_column], restval="", delimiter=delimiter, lineterminator="\n"
        )
        writer.writeheader()
        yield writer.writerow


@contextmanager
def _parquet(file: Path, source: Source, out_column: str) -> Iterator[Callable[[dict[str, Any]], object]]:
    import pyarrow

    parquet = parquet_module()
    schema = parquet.read_schema(source.file).append(pyarrow.field(out_column, pyarrow.string()))
    group: list[dict[str, Any]] = []

    def write_group() -> None:
        writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
        group.clear()

    def put(cells: dict[str, Any]) -> None:
        group.append(cells)
        if len(group) == _GROUP_ROWS:
            write_group()

    with _whole(file) as part, parquet.ParquetWriter(part, schema) as writer:
        yield put
        write_group()


@contextmanager
def _json_lines(file: Path) -> Iterator[Callable[[dict[str, Any]], object]]:
    with _whole(file) as part, part.open("wb") as lines:
        yield lambda line: lines.write(msgspec.json.encode(line) + b"\n")


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A file beside another, in whose place it is put when it is whole."""
    part = file.with_name(f".{file.name}.part")
    try:
        yield part
        os.replace(part, file)
    except OSError as error:
        raise ForebayError(f"{file}: cannot be written ({error.strerror or error}); name another") from None
    finally:
        part.unlink(missing_ok=True)


def _answer_line(row: Row, reply: Reply) -> dict[str, Any]:
    response = {
        "status_code": 200,
        "request_id": reply.request_id,
        "body": completion(reply, row.model or reply.model_id or ""),
    }
    return {"id": reply.request_id, "custom_id": row.custom_id, "response": response, "error": None}


def _error_line(batch_id: str, row: Row, error: ReplyError) -> dict[str, Any]:
    """As OpenAI does: a row that was refused or failed has a response that says so, one that was not begun has none."""
    request_id = batches.row_id(batch_id, row.number)
    line = {"id": request_id, "custom_id": row.custom_id, "response": None, "error": None}
    if error.code in _ENDED:
        return line | {"error": {"code": _ENDED[ErrorCode(error.code)], "message": error.message}}
    named = msgspec.structs.replace(error, message=f"{row.place}: {error.message}")
    status = http_status(error.code)
    return line | {"response": {"status_code": status, "request_id": request_id, "body": error_body(named)}}
