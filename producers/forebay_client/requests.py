"""From what a service has at hand (a question, turns, some fields) to a valid request, and to its cancellation."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
from forebay_schemas import commands
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import CacheOptions, Control, Message, Request

Question = str | Sequence[Message | Mapping[str, Any]] | Request
"""The user's question, the turns of a conversation in OpenAI's shape, or a finished request."""


class RequestFields(TypedDict, total=False):
    """What may be said about a request beside its question; None is the same as leaving it out.

    The names are those of ``Request``, and four that are shorter to write: ``system``, ``deadline_s``,
    ``traceparent`` (it travels as a header), and text, lists or objects where the record holds JSON text.
    """

    request_id: str | None
    """Give it to make publishing again safe: the same id is answered once. Absent: a random one."""
    tenant: str | None
    created_ms: int | None
    system: str | None
    """The system prompt: short for ``static_messages`` of one turn."""
    messages: Sequence[Message | Mapping[str, Any]] | None
    """The turns, where they are not given as the question."""
    static_messages: Sequence[Message | Mapping[str, Any]] | None
    user: str | None
    endpoint: str | None
    category: str | None
    lane: str | None
    """``interactive`` or ``batch``."""
    deadline_s: float | None
    """Seconds from now; after that nobody needs the answer."""
    deadline_ms: int | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    tools: str | Sequence[Mapping[str, Any]] | None
    tool_choice: str | None
    """``required``: one of the tools must be called."""
    response_format: str | Mapping[str, Any] | None
    cache: CacheOptions | Mapping[str, Any] | None
    min_tier: str | None
    max_tier: str | None
    prompt_version: str | None
    metadata: Mapping[str, str] | None
    stream: bool | None
    """``Client.stream`` sets it, and is what reads the pieces."""
    priority: int | None
    """Among the requests of one lane that wait for a model, higher comes first."""
    passages: Sequence[str] | None
    """Context to answer from; a category may be set to keep only those that matter to the question."""
    traceparent: str | None


_NAMES = {field.name for field in msgspec.structs.fields(Request)}
TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,200})?")
"""W3C's trace context; later versions add to it."""
_VALIDATION_PLACE = re.compile(r"(?P<problem>.*?)(?: - at `\$\.?(?P<field>.*)`)?", re.DOTALL)


def build_request(
    question: Question | None, fields: Mapping[str, Any], *, tenant: str | None, now_ms: int
) -> tuple[Request, str | None]:
    """Make a request, and tell its trace context.

    Whether its values can be answered is ``forebay_schemas.validation.validate``'s to say.

    Args:
        question: absent where ``fields`` has ``messages``.
        fields: of ``RequestFields``; over a finished request they replace its own.
        tenant: whose request it is where neither the request nor ``fields`` says so.
        now_ms: milliseconds since the Unix epoch; creation time, and where ``deadline_s`` begins.

    Raises:
        InvalidRequest: a name is unknown, a type is wrong, or two fields contradict each other.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    traceparent = values.pop("traceparent", None)
    if traceparent is not None and not (isinstance(traceparent, str) and TRACEPARENT.fullmatch(traceparent)):
        raise InvalidRequest(
            "traceparent", f"is {traceparent!a:.80}", "give a W3C trace context: 00-<32>-<16>-<2>, hex"
        )
    if isinstance(question, Request):
        values = msgspec.structs.asdict(question) | values
    elif question is not None:
        _put(values, "messages", question if not isinstance(question, str) else [_turn("user", question)], "question")
    if (system := values.pop("system", None)) is not None:
        _put(values, "static_messages", [_turn("system", system)], "system")
    if (deadline_s := values.pop("deadline_s", None)) is not None:
        _put(values, "deadline_ms", _deadline_ms(deadline_s, now_ms), "deadline_s")
    defaults = {"request_id": uuid.uuid4().hex, "tenant": tenant, "created_ms": now_ms}
    return _convert(defaults | values), traceparent


def build_cancellation(request_id: str, tenant: str | None, now_ms: int) -> Control:
    """The command that takes a request back.

    Raises:
        InvalidRequest: the request is not named.
    """
    if not tenant:
        raise InvalidRequest("tenant", "is absent", "name it for the client or for the cancellation")
    if not request_id:
        raise InvalidRequest("request_id", "is empty", "give the id of the request to cancel")
    return commands.cancel(tenant, request_id, issued_by="client", issued_ms=now_ms)


def _put(values: dict[str, Any], name: str, value: Any, short: str) -> None:
    if values.get(name):
        raise InvalidRequest(short, f"says the same as {name}, which is given too", "leave one of them out")
    values[name] = value


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _deadline_ms(deadline_s: Any, now_ms: int) -> int:
    if not isinstance(deadline_s, int | float) or not 0 < deadline_s < 10**9:
        raise InvalidRequest("deadline_s", f"is {deadline_s!a}", "give a positive number of seconds from now")
    return now_ms + round(deadline_s * 1000)


def _convert(values: dict[str, Any]) -> Request:
    if unknown := values.keys() - _NAMES:
        known = ", ".join(sorted(RequestFields.__annotations__))
        raise InvalidRequest(min(unknown), "is no field of a request", f"use one of {known}")
    if values["tenant"] is None:
        raise InvalidRequest("tenant", "is absent", "name it for the client or for the request")
    for name in ("tools", "response_format"):
        values[name] = _json_text(name, values.get(name))
    for name in ("messages", "static_messages"):
        if isinstance(values.get(name), Sequence) and not isinstance(values[name], str):
            values[name] = [_message(f"{name}[{place}]", turn) for place, turn in enumerate(values[name])]
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    try:
        return msgspec.convert(values, Request)
    except msgspec.ValidationError as error:
        match = _VALIDATION_PLACE.fullmatch(str(error))
        assert match is not None
        problem, field = match["problem"], match["field"]
        if not field and "missing required field" in problem:
            raise InvalidRequest("messages", "is absent", "give a question or the turns of a conversation") from None
        raise InvalidRequest(field or "request", f"has the wrong type ({problem})", "mend its value") from None


def _message(path: str, turn: Any) -> Any:
    if not isinstance(turn, Mapping):
        return turn
    return {**turn, "tool_calls": _json_text(f"{path}.tool_calls", turn.get("tool_calls"))}


def _json_text(path: str, value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            path, f"cannot be written as JSON ({error})", "use plain lists, objects and texts"
        ) from None
