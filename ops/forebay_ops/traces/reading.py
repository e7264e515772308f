"""Reads traces: two public forms, which tell arrivals and token counts, and our own, which tells the requests too.

======== ===============================================================================================
Azure    CSV with the columns ``TIMESTAMP``, ``ContextTokens``, ``GeneratedTokens`` (Azure/AzurePublicDataset)
Mooncake JSON lines with ``timestamp`` in ms, ``input_length``, ``output_length`` (kvcache-ai/Mooncake)
our own  JSON lines with ``at_ms``, the fields of a request as ``forebay send`` takes them, and where known
         ``label``, ``right`` (by tier), ``prompt_tokens`` and ``completion_tokens``
======== ===============================================================================================
"""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any, BinaryIO

import msgspec
from forebay_schemas.errors import ForebayError, RecordError

from ..request_lines import LineError, numbered, parse_object, plain
from .arrivals import Arrival

_Tokens = Annotated[int, msgspec.Meta(ge=0)]
_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE = {"timestamp", "input_length", "output_length"}


class TraceError(ForebayError):
    """A file is no trace; the message says what is wrong and how to mend it."""


class _Moment(msgspec.Struct):
    """What a line of a trace says besides its request."""

    at_ms: float
    label: str | int | None = None
    right: dict[str, bool] | None = None
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None


_OWN = frozenset(_Moment.__struct_fields__)


def read_trace(file: BinaryIO) -> Iterator[Arrival]:
    """The arrivals of a file, plain or gzip, one after the other; its first line tells the form.

    Raises:
        TraceError: it has none of the forms.
        LineError: a line cannot be used, or comes before the one above it.
    """
    lines = numbered(plain(file))
    first = next(lines, None)
    if first is None:
        raise TraceError("the trace is empty")
    number, line = first
    header = line.decode("utf-8", "replace").strip().split(",")
    if set(_AZURE) <= set(header):
        return _from_first(_azure(header, lines))
    try:
        names = parse_object(line).keys()
    except RecordError:
        names = frozenset[str]()
    if "at_ms" in names:
        return _from_first(_own(chain((first,), lines)))
    if names >= _MOONCAKE:
        return _from_first(_mooncake(chain((first,), lines)))
    raise TraceError(
        f"line {number}: begins no trace; give JSON lines with at_ms and the fields of a request, JSON lines with"
        f" timestamp, input_length and output_length (Mooncake), or CSV with the columns {', '.join(_AZURE)} (Azure)"
    )


def _from_first(arrivals: Iterable[tuple[int, Arrival]]) -> Iterator[Arrival]:
    """The same, with times since the first of them."""
    first_ms = last_ms = None
    for number, arrival in arrivals:
        first_ms = arrival.at_ms if first_ms is None else first_ms
        if last_ms is not None and arrival.at_ms < last_ms:
            raise LineError(number, "comes before the line above it; sort the lines by their times")
        last_ms = arrival.at_ms
        yield replace(arrival, at_ms=arrival.at_ms - first_ms)


def _azure(header: list[str], lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Arrival]]:
    for number, line in lines:
        (row,) = csv.DictReader([line.decode("utf-8", "replace")], fieldnames=header)
        told = {"prompt_tokens": row["ContextTokens"], "completion_tokens": row["GeneratedTokens"]}
        moment = _moment(number, {"at_ms": _azure_ms(number, row["TIMESTAMP"]), **told})
        yield number, _arrival(moment, {})


def _azure_ms(number: int, text: Any) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000
    except (TypeError, ValueError):
        raise LineError(number, f"TIMESTAMP: {text!a} is no time; give one such as 2023-11-16 18:15:46.680") from None


def _mooncake(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Arrival]]:
    for number, line in lines:
        values = _object(number, line)
        told = {"prompt_tokens": values.get("input_length"), "completion_tokens": values.get("output_length")}
        yield number, _arrival(_moment(number, {"at_ms": values.get("timestamp"), **told}), {})


def _own(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Arrival]]:
    for number, line in lines:
        values = _object(number, line)
        moment = _moment(number, {name: value for name, value in values.items() if name in _OWN})
        yield number, _arrival(moment, {name: value for name, value in values.items() if name not in _OWN})


def _object(number: int, line: bytes) -> dict[str, Any]:
    try:
        return parse_object(line)
    except RecordError as error:
        raise LineError(number, error) from None


def _moment(number: int, values: dict[str, Any]) -> _Moment:
    try:
        moment = msgspec.convert(values, _Moment, strict=False)  # the figures of a CSV file are texts
    except msgspec.ValidationError as error:
        raise LineError(number, f"{error}; give milliseconds for times and whole numbers for tokens") from None
    if not math.isfinite(moment.at_ms):
        raise LineError(number, f"at_ms: is {moment.at_ms}; give milliseconds")
    return moment


def _arrival(moment: _Moment, fields: dict[str, Any]) -> Arrival:
    return Arrival(
        at_ms=moment.at_ms,
        fields=fields,
        label=None if moment.label is None else str(moment.label),
        right=moment.right,
        prompt_tokens=moment.prompt_tokens,
        completion_tokens=moment.completion_tokens,
    )
