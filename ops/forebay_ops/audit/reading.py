"""Reads call logs of OpenAI-style APIs: from each line the request as one of ours, its model, tokens and time."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, InvalidRequest, RecordError
from forebay_schemas.records import Request, Usage
from forebay_schemas.validation import validate

from ..request_lines import numbered, parse_object, plain, request_of

MOST_LINE_BYTES = 64 * 2**20
"""A longer line is no call; reading it whole could take all memory."""
_SHOWN_PROBLEMS = 5

_REQUEST_PLACES = (("request", "body"), ("request",), ("body",), ())
_RESPONSE_PLACES = (("response", "body"), ("response",), ())
_ASKS = {"messages", "prompt", "question"}
_ANSWERS = {"usage", "choices", "error"}
_PARAMETERS = ("system", "static_messages", "passages", "max_tokens", "temperature", "top_p", "stop", "seed", "tools",
               "response_format", "cache")  # fmt: skip
_ATTRIBUTES = ("tenant", "user", "endpoint", "category", "prompt_version", "lane")
"""Of these, what stands in the request goes before what stands beside it."""
_TIMES = ("timestamp", "@timestamp", "created_at", "created_ms", "time", "ts", "created")
_TURN_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id")

# No log is older than 1973: the magnitude of a number tells its unit.
_MILLISECONDS_FROM = 1e11
_MICROSECONDS_FROM = 1e14
_NANOSECONDS_FROM = 1e17
_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a log.

    Attributes:
        request: as a service of ours would send it.
        model: that answered, as the log names it.
        usage: as the log tells it.
        at_s: seconds since the Unix epoch; None where the line does not say.
        complete: whether the answer came to its own end, as one has to that is kept.
    """

    request: Request
    model: str
    usage: Usage
    at_s: float | None
    complete: bool


class LogReader:
    """Reads calls, and counts the lines that are none.

    Attributes:
        lines: that hold something.
        failed: calls that ended in an error; they cost nothing, and are left out.
        unreadable: lines that could not be used.
        problems: the first few of these, each with its file and line, the problem and the mend.
    """

    def __init__(self, config: Config, *, tenant: str, category: str | None) -> None:
        """``tenant`` and ``category`` are those of lines that name none."""
        self._config = config
        self._tenant = tenant
        self._category = category
        self.lines = 0
        self.failed = 0
        self.unreadable = 0
        self.problems: list[str] = []

    def calls(self, name: str, file: BinaryIO) -> Iterator[Call]:
        """The calls of one file, plain or gzip; one that is damaged ends there, as one does that is still written."""
        number = 0
        try:
            for number, line in numbered(_lines(plain(file))):
                self.lines += 1
                try:
                    call = self._call(parse_object(line), number)
                except RecordError as error:
                    self._note(f"{name} line {number}: {error}")
                else:
                    if call is None:
                        self.failed += 1
                    else:
                        yield call
        except (OSError, EOFError, zlib.error) as error:
            self._note(f"{name} cannot be read after line {number} ({error}); give a whole file")

    def _note(self, problem: str) -> None:
        self.unreadable += 1
        if len(self.problems) < _SHOWN_PROBLEMS:
            self.problems.append(problem)

    def _call(self, line: Mapping[str, Any], number: int) -> Call | None:
        response = _found(line, _RESPONSE_PLACES, _ANSWERS) or {}
        if _failed(line, response):
            return None
        body = _found(line, _REQUEST_PLACES, _ASKS)
        if body is None:
            raise InvalidRequest(
                "messages", "is absent in the line, in its `request` and its `body`", "log the request as it was sent"
            )
        at_s = _time(line, body, response)
        request = self._request(line, body, number, at_s)
        return Call(
            request=request,
            model=_model(line, body, response),
            usage=_usage(line, response),
            at_s=at_s,
            complete=_complete(response),
        )

    def _request(self, line: Mapping[str, Any], body: Mapping[str, Any], number: int, at_s: float | None) -> Request:
        if body.get("n") not in (None, 1):
            raise InvalidRequest("n", f"is {body['n']!a:.20}", "one request has one answer here; leave such calls out")
        attributes = {name: body.get(name) or line.get(name) for name in _ATTRIBUTES}
        if "custom_id" in line:  # a line of a batch file
            attributes["lane"] = "batch"
        fields = {
            "category": self._category,
            "request_id": str(number),
            "created_ms": round((at_s or 0.0) * 1000),
            "max_tokens": body.get("max_completion_tokens"),
            "tools": _tools(body.get("functions")),
            **_asked(body),
            **{name: value for name, value in attributes.items() if value is not None},
            **{name: body[name] for name in _PARAMETERS if body.get(name) not in (None, [])},
        }
        request, _ = request_of(fields, self._tenant)
        validate(request, self._config)
        return request


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines, of those that are too long the beginning, which is no JSON."""
    while line := file.readline(MOST_LINE_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE_BYTES)
        yield line


def _found(line: Mapping[str, Any], places: tuple[tuple[str, ...], ...], wanted: set[str]) -> Mapping[str, Any] | None:
    """The first object of the places that has one of the wanted members."""
    for place in places:
        value: Any = line
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and wanted & value.keys():
            return value
    return None


def _failed(line: Mapping[str, Any], response: Mapping[str, Any]) -> bool:
    outer = line.get("response")
    status = outer.get("status_code") if isinstance(outer, Mapping) else line.get("status_code")
    return bool(line.get("error") or response.get("error")) or (isinstance(status, int) and status >= 400)


def _asked(body: Mapping[str, Any]) -> dict[str, Any]:
    """The turns, or the question."""
    if "messages" not in body:
        name = "prompt" if "prompt" in body else "question"
        if not isinstance(body[name], str):
            raise InvalidRequest(name, "is no text", "give one text a line")
        return {"question": body[name]}
    if not isinstance(body["messages"], list):
        raise InvalidRequest("messages", "is no list", "give the turns of the conversation")
    return {"messages": [_turn(f"messages[{place}]", turn) for place, turn in enumerate(body["messages"])]}


def _turn(path: str, turn: Any) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise InvalidRequest(path, "is no object", 'give a turn such as {"role": "user", "content": "..."}')
    # What an answer carries besides (refusal, annotations) is null in what is sent again.
    kept = {name: turn[name] for name in _TURN_FIELDS if turn.get(name) not in (None, [])}
    if isinstance(turn.get("content"), list):
        kept["content"] = "\n".join(_part(f"{path}.content", part) for part in turn["content"])
    return kept


def _part(path: str, part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else None
        raise InvalidRequest(path, f"holds a part of the type {kind!a:.40}", "only text is taken; leave such calls out")
    return text


def _model(*places: Mapping[str, Any]) -> str:
    line, body, response = places
    model = body.get("model") or line.get("model") or response.get("model")
    if not isinstance(model, str):
        raise InvalidRequest("model", "is absent", "log the model that was called: what it cost depends on it")
    return model


def _usage(line: Mapping[str, Any], response: Mapping[str, Any]) -> Usage:
    told = response.get("usage") or line.get("usage")
    if not isinstance(told, Mapping):
        raise InvalidRequest("usage", "is absent", "log the response's usage: prompt_tokens and completion_tokens")
    details = told.get("prompt_tokens_details") or told.get("input_tokens_details")
    prompt = _tokens(told, "prompt_tokens", "input_tokens")
    cached = _tokens(details, "cached_tokens") if isinstance(details, Mapping) else 0
    if prompt is None:
        raise InvalidRequest("usage.prompt_tokens", "is absent", "log the response's usage as it came")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=_tokens(told, "completion_tokens", "output_tokens") or 0,
        cached_prompt_tokens=min(cached or 0, prompt),
    )


def _tokens(told: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        count = told.get(name)
        if count is not None:
            if type(count) is not int or not 0 <= count <= _MOST_TOKENS:
                raise InvalidRequest(f"usage.{name}", f"is {count!a:.40}", "give a number of tokens")
            return count
    return None


def _complete(response: Mapping[str, Any]) -> bool:
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else response
    reason = first.get("finish_reason") if isinstance(first, Mapping) else None
    return reason in (None, "stop")


def _time(*places: Mapping[str, Any]) -> float | None:
    for place in places:
        for name in _TIMES:
            if place.get(name) is not None:
                return _seconds(name, place[name])
    return None


def _seconds(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _from_iso(name, value)
    for least, per_second in ((_NANOSECONDS_FROM, 1e9), (_MICROSECONDS_FROM, 1e6), (_MILLISECONDS_FROM, 1e3)):
        if number >= least:
            number /= per_second
            break
    if not 0 <= number < _MILLISECONDS_FROM:
        raise _no_time(name, value)
    return number


def _from_iso(name: str, value: Any) -> float:
    try:
        time = datetime.fromisoformat(value)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise _no_time(name, value) from None


def _no_time(name: str, value: Any) -> RecordError:
    mend = "give seconds since 1970, or ISO 8601"
    return RecordError(ErrorCode.INVALID_REQUEST, f"is {value!a:.40}, which is no time; {mend}", name)


def _tools(functions: Any) -> list[dict[str, Any]] | None:
    """What tools were called before they had that name."""
    if not isinstance(functions, list) or not functions:
        return None
    return [{"type": "function", "function": function} for function in functions]
