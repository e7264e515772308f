"""Reads the rows of a file, one at a time, whatever its size: OpenAI's batch format, CSV or Parquet."""

import csv
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, ForebayError, InvalidRequest, RecordError

from ..openai_format import CHAT_COMPLETIONS, fields_of_chat
from .options import RowOptions
from .template import Template

MAX_CUSTOM_ID_CHARS = 512
_PARQUET_ROWS = 1_000
"""Held at once, besides what the file's row groups need."""
_LINE_HEADROOM = 2
"""How much longer than a record a line may be: JSON escapes what a record holds as it is."""
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a line raises that is none."""


class Row(msgspec.Struct, frozen=True):
    """A row of a file.

    Attributes:
        number: its place among the rows, from 1.
        place: where a person finds it.
        custom_id: what its author calls it; None where that cannot be read.
        fields: of the request that it makes, as ``RequestFields``.
        problem: why it makes none.
        cells: of CSV and Parquet, by column.
        model: as the row asks for it.
    """

    number: int
    place: str
    custom_id: str | None
    fields: Mapping[str, Any] | None = None
    problem: RecordError | None = None
    cells: Mapping[str, Any] | None = None
    model: str | None = None


class Source(Protocol):
    """A file of rows. Every iteration reads it from its beginning."""

    file: Path
    columns: list[str] | None
    """Of CSV and Parquet."""

    def names(self) -> Iterator[tuple[str, str | None]]:
        """Of each row its place and its ``custom_id``, where nothing else is asked of it."""
        ...

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """The rows behind the first ``skip``."""
        ...


def open_source(file: Path, options: RowOptions, config: Config) -> Source:
    """The rows of a file, whose form its name tells.

    Raises:
        InvalidRequest: an option does not fit the file.
        ForebayError: it cannot be read, or is of another form.
    """
    kind = file.suffix.lower()
    if not file.is_file():
        raise ForebayError(f"{file}: there is no such file")
    if kind == ".jsonl":
        for name in ("template", "system", "id_column"):
            if getattr(options, name) is not None:
                raise InvalidRequest(name, f"does not fit {file.name}, whose lines are whole requests", "leave it out")
        return _Lines(file, options, config)
    tables = {".csv": _Csv, ".tsv": _Csv, ".parquet": _Parquet}
    if kind not in tables:
        raise ForebayError(f"{file}: its name must end in .jsonl, .csv, .tsv or .parquet, which tells its form")
    return tables[kind](file, options)


class _Lines:
    """OpenAI's batch format: a request a line."""

    def __init__(self, file: Path, options: RowOptions, config: Config) -> None:
        self.file = file
        self.columns: list[str] | None = None
        self._config = config
        self._common = options.fields()
        self._longest = _LINE_HEADROOM * config.kafka.max_record_bytes

    def names(self) -> Iterator[tuple[str, str | None]]:
        decoder = msgspec.json.Decoder(_Named)
        for place, line in self._lines():
            try:
                yield place, decoder.decode(line).custom_id
            except _NO_JSON:
                yield place, None

    def rows(self, skip: int = 0) -> Iterator[Row]:
        for number, (place, line) in enumerate(itertools.islice(self._lines(), skip, None), start=skip + 1):
            custom_id: str | None = None
            try:
                request = _object(line, self._longest)
                if isinstance(said := request.get("custom_id"), str):
                    custom_id = said
                fields = self._common | self._fields(request)
                yield Row(number, place, custom_id, fields=fields, model=request["body"].get("model"))
            except RecordError as error:
                yield Row(number, place, custom_id, problem=error)

    def _fields(self, request: Mapping[str, Any]) -> dict[str, Any]:
        _check_custom_id(request.get("custom_id"))
        if request.get("method") != "POST":
            raise InvalidRequest("method", f"is {request.get('method')!a:.40}", "give POST")
        if request.get("url") != CHAT_COMPLETIONS:
            raise InvalidRequest("url", f"is {request.get('url')!a:.80}", f"give {CHAT_COMPLETIONS}")
        if not isinstance(body := request.get("body"), dict):
            raise InvalidRequest("body", "is no object", "give the body of a chat completion")
        return fields_of_chat(body, self._config)

    def _lines(self) -> Iterator[tuple[str, bytes]]:
        """The lines that hold something; of one that is too long the beginning."""
        with self.file.open("rb") as lines:
            for number in itertools.count(1):
                line = lines.readline(self._longest + 1)
                if not line:
                    return
                end = line
                while len(end) > self._longest and not end.endswith(b"\n"):
                    end = lines.readline(self._longest + 1)
                if line.strip():
                    yield f"line {number}", line


class _Named(msgspec.Struct):
    custom_id: str | None = None


class _Table:
    """Rows of cells, of which a template makes prompts."""

    def __init__(self, file: Path, options: RowOptions) -> None:
        self.file = file
        self._id_column = options.id_column
        self._common = options.fields()
        if options.system is not None:
            self._common["system"] = options.system
        if options.template is None:
            raise InvalidRequest("template", "is absent", "say how a row becomes a prompt: Classify: {text}")
        self._template = Template(options.template)
        self._columns = self._read_columns()
        self.columns: list[str] | None = self._columns
        self._template.check(self._columns)
        if self._id_column is not None and self._id_column not in self._columns:
            mend = f"use one of {', '.join(self._columns)}"
            raise InvalidRequest("id_column", f"{self._id_column!a} is no column of the file", mend)

    def names(self) -> Iterator[tuple[str, str | None]]:
        for number, cells in self._cells(0):
            yield f"row {number}", self._name(number, cells)

    def rows(self, skip: int = 0) -> Iterator[Row]:
        for number, cells in self._cells(skip):
            place, custom_id = f"row {number}", None
            try:
                if isinstance(cells, RecordError):
                    raise cells
                custom_id = self._name(number, cells)
                _check_custom_id(custom_id)
                prompt = self._template.fill(cells)
                fields = self._common | {"messages": [{"role": "user", "content": prompt}]}
                yield Row(number, place, custom_id, fields=fields, cells=cells)
            except RecordError as error:
                known = {} if isinstance(cells, RecordError) else cells
                yield Row(number, place, custom_id, problem=error, cells=known)

    def _name(self, number: int, cells: Mapping[str, Any] | RecordError) -> str | None:
        if self._id_column is None:
            return str(number)
        value = None if isinstance(cells, RecordError) else cells[self._id_column]
        return None if value is None else str(value)

    def _read_columns(self) -> list[str]:
        raise NotImplementedError

    def _cells(self, skip: int) -> Iterator[tuple[int, Mapping[str, Any] | RecordError]]:
        raise NotImplementedError


class _Csv(_Table):
    def _read_columns(self) -> list[str]:
        with self._records() as records:
            columns = next(records, [])
        if len(set(columns)) < len(columns) or not all(columns):
            raise ForebayError(f"{self.file}: its first row must name each column once; it is {columns!a:.200}")
        return columns

    def _cells(self, skip: int) -> Iterator[tuple[int, Mapping[str, Any] | RecordError]]:
        with self._records() as records:
            next(records, None)
            filled = (record for record in records if record)
            for number, record in enumerate(itertools.islice(filled, skip, None), start=skip + 1):
                if len(record) == len(self._columns):
                    yield number, dict(zip(self._columns, record, strict=True))
                else:
                    problem = f"the row has {len(record)} cells where the first row names {len(self._columns)}"
                    yield number, RecordError(ErrorCode.INVALID_REQUEST, f"{problem}; mend its commas and quotes")

    @contextmanager
    def _records(self) -> Iterator[Iterator[list[str]]]:
        with self.file.open(newline="", encoding="utf-8-sig") as text:
            yield self._guarded(csv.reader(text, delimiter=self._delimiter, strict=True))

    def _guarded(self, records: Any) -> Iterator[list[str]]:
        try:
            yield from records
        except (csv.Error, UnicodeDecodeError) as error:
            raise ForebayError(
                f"{self.file}: cannot be read behind line {records.line_num} ({error}); CSV in UTF-8 is read, with"
                f" double quotes, and cells of {csv.field_size_limit():,} characters at most: JSONL and Parquet hold"
                " longer ones"
            ) from None

    @property
    def _delimiter(self) -> str:
        return "\t" if self.file.suffix.lower() == ".tsv" else ","


class _Parquet(_Table):
    def _read_columns(self) -> list[str]:
        with self._opened() as parquet:
            return list(parquet.schema_arrow.names)

    def _cells(self, skip: int) -> Iterator[tuple[int, Mapping[str, Any] | RecordError]]:
        number = 0
        with self._opened() as parquet:
            for batch in parquet.iter_batches(_PARQUET_ROWS):
                if number + batch.num_rows <= skip:
                    number += batch.num_rows
                    continue
                for cells in batch.to_pylist():
                    number += 1
                    if number > skip:
                        yield number, cells

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        parquet = parquet_module()
        try:
            with parquet.ParquetFile(self.file) as opened:
                yield opened
        except Exception as error:  # a broken page shows when it is read, by whatever the decoder of its values raises
            raise ForebayError(f"{self.file}: cannot be read as Parquet ({error})") from None


def parquet_module() -> Any:
    """pyarrow's, which only those need who have Parquet.

    Raises:
        ForebayError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise ForebayError("Parquet needs the package pyarrow; install forebay[reports]") from None
    return pyarrow.parquet


def _object(line: bytes, longest: int) -> Mapping[str, Any]:
    if len(line) > longest:
        problem = f"the line has more than {longest:,} bytes; send less context"
        raise RecordError(ErrorCode.TOO_LARGE, problem)
    try:
        value = msgspec.json.decode(line)
    except _NO_JSON as error:
        raise RecordError(ErrorCode.MALFORMED, f"the line is no JSON ({error}); give one object a line") from None
    if not isinstance(value, dict):
        raise RecordError(ErrorCode.MALFORMED, "the line is no JSON object; give one with custom_id, method, url, body")
    return value


def _check_custom_id(value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidRequest("custom_id", "is absent" if value in (None, "") else "is no text", "give the row a name")
    if len(value) > MAX_CUSTOM_ID_CHARS:
        raise InvalidRequest("custom_id", f"has {len(value)} characters", f"use at most {MAX_CUSTOM_ID_CHARS}")
