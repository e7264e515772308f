"""Whether a decoded request can be answered, and feedback be counted: the one check that all sides share."""

import json
import math
import re
import unicodedata
from typing import Any

import msgspec

from .canonical import all_messages
from .config import Config
from .errors import ErrorCode, InvalidRequest
from .invalidation import Invalidation
from .records import Feedback, Lane, Message, Request

ROLES = ("system", "developer", "user", "assistant", "tool")
"""OpenAI's roles."""

MAX_ID_CHARS = 200
"""Ids travel in headers, keys and labels; OpenAI's own are below 64."""
MAX_MESSAGES = 2_000
MAX_STOP = 16
"""vLLM checks every stop string after every token; OpenAI allows 4."""
MAX_STOP_CHARS = 200
MAX_PASSAGES = 500
"""Each is embedded where passages are chosen."""
MAX_JSON_DEPTH = 32
MAX_SOURCES = 64
"""The epoch of each is read with every lookup."""
CLOCKS_DIFFER_MS = 60_000
"""By so much at most, as far as a time that must have passed is concerned."""
_ONE_OF = ("source", "prompt_version", "model", "category")
_MAX_TTL_S = 365 * 24 * 3600
_MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999; what is above was given in micro- or nanoseconds."""
_SHOWN_CHARS = 80
_INT64 = range(-(2**63), 2**63)
_NOT_IN_IDS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
# Normalising sorts such a run in quadratic time; 30 is the limit of Unicode's stream-safe text (UAX 15).
_COMBINING_RUN = re.compile(rb"[^\0]{31}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_WHERE = re.compile(r" - at (?:`\w+` in )?`\$\.?(?P<path>.*)`$")


def validate(request: Request, config: Config, *, decoded: bool = False) -> None:
    """Check everything that can be known before a request is answered.

    The deadline is not checked: it is a matter of the clock, see ``expired``.

    Args:
        decoded: whether it is as the codec gave it, which has seen to the types.

    Raises:
        InvalidRequest: naming the first field that is wrong, its problem and the mend.
    """
    if not decoded:
        _check_types(request)
    for field in ("request_id", "tenant"):
        _check_id(field, getattr(request, field), required=True)
    for field in ("user", "endpoint", "category", "prompt_version"):
        _check_id(field, getattr(request, field), required=False)
    _check_messages(request)
    _check_parameters(request)
    _check_json(request)
    _check_passages(request)
    _check_cache(request)
    _check_tiers(request, config)
    for field in ("created_ms", "deadline_ms"):
        _check_range(field, getattr(request, field), 0, _MAX_TIME_MS, " milliseconds since the Unix epoch")
    for key, value in request.metadata.items():
        _check_text("metadata", key)
        _check_text(f"metadata[{_shown(key)}]", value)


def validate_feedback(feedback: Feedback) -> None:
    """Check everything that can be known of feedback without its request.

    Raises:
        InvalidRequest: naming the first field that is wrong, its problem and the mend.
    """
    _check_types(feedback)
    for field in ("request_id", "tenant"):
        _check_id(field, getattr(feedback, field), required=True)
    for field in ("user", "reason", "refined_by"):
        _check_id(field, getattr(feedback, field), required=False)
    if feedback.refined_by == feedback.request_id:
        raise InvalidRequest("refined_by", "is the request itself", "name the later request, or leave it out")
    _check_range("given_ms", feedback.given_ms, 0, _MAX_TIME_MS, " milliseconds since the Unix epoch")


def validate_invalidation(invalidation: Invalidation, now_ms: int) -> None:
    """Check that it is clear which answers an invalidation means.

    Args:
        now_ms: milliseconds since the Unix epoch; a limit of age in the future would keep every new answer out.

    Raises:
        InvalidRequest: naming the first filter that is wrong, its problem and the mend.
    """
    _check_types(invalidation)
    given = list(invalidation.arguments())
    if not given:
        every = ", ".join(Invalidation.__struct_fields__)
        raise InvalidRequest("filters", "are absent", f"say what is to be invalidated, by {every}")
    for field in ("tenant", *_ONE_OF):
        _check_id(field, getattr(invalidation, field), required=False)
    named = [field for field in _ONE_OF if field in given]
    if len(named) > 1:
        raise InvalidRequest(
            named[1],
            f"cannot narrow {named[0]}",
            "give one of them, alone or with tenant; two commands invalidate what meets either",
        )
    if invalidation.key is not None:
        if len(given) > 1:
            raise InvalidRequest("key", "names one answer, so nothing can narrow it", "give it alone")
        if not _DIGEST.fullmatch(invalidation.key):
            raise InvalidRequest("key", f"is {_shown(invalidation.key)}", "give the 32 hex digits of an entry's digest")
    _check_range("before_ms", invalidation.before_ms, 0, _MAX_TIME_MS, " milliseconds since the Unix epoch")
    if invalidation.before_ms is not None and invalidation.before_ms > now_ms + CLOCKS_DIFFER_MS:
        raise InvalidRequest("before_ms", f"is {invalidation.before_ms}, in the future", "give a time that has passed")


def check_tenant(tenant: str, topic: str, owner: str | None) -> None:
    """Check that a record names the tenant that its topic belongs to: who may write there is how a tenant is known.

    Args:
        owner: the one tenant that may write the topic; None: any may, and none is known to be true.

    Raises:
        InvalidRequest: the record names another tenant.
    """
    if owner is not None and tenant != owner:
        raise InvalidRequest(
            "tenant",
            f"is {_shown(tenant)}, but the topic {topic} belongs to {owner!a}",
            "publish to a topic of this tenant",
            ErrorCode.TENANT_NOT_ALLOWED,
        )


def expired(request: Request, now_ms: int) -> bool:
    """Whether the deadline has passed."""
    return request.deadline_ms is not None and request.deadline_ms <= now_ms


def _check_types(record: msgspec.Struct) -> None:
    # What comes off a topic has its types; what a service builds in Python may not.
    kind = type(record)
    try:
        msgspec.convert(msgspec.to_builtins(record), kind)
    except (msgspec.ValidationError, TypeError) as error:
        where = _WHERE.search(str(error))
        problem = str(error)[: where.start()] if where else str(error)
        field = where["path"] if where else kind.__name__.lower()
        mend = f"give it the type of {kind.__module__.rpartition('.')[2]}.{kind.__name__}"
        raise InvalidRequest(field, f"has the wrong type ({problem})", mend) from None


def _check_id(field: str, value: str | None, required: bool) -> None:
    if value is None and not required:
        return
    if not value:
        raise InvalidRequest(field, "is empty", "give it a value" if required else "leave it out or give it a value")
    if len(value) > MAX_ID_CHARS:
        raise InvalidRequest(field, f"has {len(value)} characters", f"use at most {MAX_ID_CHARS}")
    if _NOT_IN_IDS.search(value):
        raise InvalidRequest(field, f"{_shown(value)} holds a control character", "use printable characters")


def _check_text(path: str, text: str | None) -> None:
    if text is None:
        return
    found = _NOT_IN_TEXT.search(text)
    if found:
        kind = "a lone surrogate" if found[0] >= " " else "a control character"
        raise InvalidRequest(path, f"holds {kind} ({found[0]!a})", "remove it")
    if not text.isascii() and _COMBINING_RUN.search(bytes(map(unicodedata.combining, text))):
        raise InvalidRequest(path, "holds more than 30 combining characters in a row", "remove them")


def _check_messages(request: Request) -> None:
    if not request.messages:
        raise InvalidRequest("messages", "is empty", "give at least one message, the user's question last")
    count = len(request.messages) + len(request.static_messages)
    if count > MAX_MESSAGES:
        raise InvalidRequest("messages", f"has {count} turns", f"send at most {MAX_MESSAGES}")
    for field in ("static_messages", "messages"):
        for position, message in enumerate(getattr(request, field)):
            _check_message(f"{field}[{position}]", message)
    if not any(message.content and message.content.strip() for message in all_messages(request)):
        raise InvalidRequest("messages", "hold no text", "give at least one message with content")
    last = request.messages[-1]
    if last.role == "user" and not (last.content and last.content.strip()):
        raise InvalidRequest(
            f"messages[{len(request.messages) - 1}].content", "the user's last turn is empty", "give it text"
        )


def _check_message(path: str, message: Message) -> None:
    if message.role not in ROLES:
        raise InvalidRequest(f"{path}.role", f"{_shown(message.role)} is unknown", f"use one of {', '.join(ROLES)}")
    if message.content is None and message.tool_calls is None:
        raise InvalidRequest(f"{path}.content", "is absent", "give it text")
    for name in ("content", "name", "tool_call_id"):
        _check_text(f"{path}.{name}", getattr(message, name))
    if message.tool_calls is not None:
        _check_objects(f"{path}.tool_calls", message.tool_calls, "OpenAI's list of tool calls")


def _check_parameters(request: Request) -> None:
    _check_range("max_tokens", request.max_tokens, 1, 1_000_000)
    _check_range("temperature", request.temperature, 0, 2)
    _check_range("top_p", request.top_p, 0, 1)
    if request.top_p == 0:
        raise InvalidRequest("top_p", "is 0", "give a value above 0, at most 1")
    if request.seed is not None and request.seed not in _INT64:
        raise InvalidRequest("seed", "does not fit 64 bits", "give a smaller number")
    if len(request.stop) > MAX_STOP:
        raise InvalidRequest("stop", f"has {len(request.stop)} sequences", f"give at most {MAX_STOP}")
    for position, stop in enumerate(request.stop):
        if not 0 < len(stop) <= MAX_STOP_CHARS:
            raise InvalidRequest(
                f"stop[{position}]", f"has {len(stop)} characters", f"give between 1 and {MAX_STOP_CHARS}"
            )
        _check_text(f"stop[{position}]", stop)


def _check_passages(request: Request) -> None:
    if len(request.passages) > MAX_PASSAGES:
        raise InvalidRequest("passages", f"has {len(request.passages)} texts", f"give at most {MAX_PASSAGES}")
    for position, passage in enumerate(request.passages):
        if not passage.strip():
            raise InvalidRequest(f"passages[{position}]", "is empty", "leave it out or give it text")
        _check_text(f"passages[{position}]", passage)


def _check_json(request: Request) -> None:
    if request.tools is not None:
        _check_objects("tools", request.tools, "OpenAI's list of tools")
    if request.tool_choice not in (None, "required"):
        mend = "give required; where one function must be called, as the only one of tools"
        raise InvalidRequest("tool_choice", f"is {_shown(request.tool_choice)}", mend)
    if request.tool_choice is not None and not json.loads(request.tools or "[]"):
        raise InvalidRequest("tool_choice", "is required while tools are absent", "give tools, or leave it out")
    if request.response_format is None:
        return
    form = _parse("response_format", request.response_format)
    kind = form.get("type") if isinstance(form, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequest(
            "response_format", f"has the type {_shown(kind)}", "use text, json_object or json_schema, in OpenAI's shape"
        )
    described = form.get("json_schema")
    if kind == "json_schema" and not (isinstance(described, dict) and isinstance(described.get("schema"), dict)):
        raise InvalidRequest(
            "response_format.json_schema.schema", "is no object", "put the JSON schema there, as OpenAI does"
        )


def _check_cache(request: Request) -> None:
    _check_range("cache.ttl_s", request.cache.ttl_s, 1, _MAX_TTL_S)
    if len(request.cache.sources) > MAX_SOURCES:
        raise InvalidRequest("cache.sources", f"has {len(request.cache.sources)} names", f"give at most {MAX_SOURCES}")
    for position, source in enumerate(request.cache.sources):
        _check_id(f"cache.sources[{position}]", source, required=True)
    if request.cache.scope == "user" and not request.user:
        raise InvalidRequest("user", "is absent while cache.scope is user", "name the user, or use the scope tenant")


def _check_tiers(request: Request, config: Config) -> None:
    names = list(config.tiers)
    for field in ("min_tier", "max_tier"):
        tier = getattr(request, field)
        if tier is not None and tier not in names:
            raise InvalidRequest(field, f"{_shown(tier)} is no tier", f"use one of {', '.join(names)}")
    if request.min_tier and request.max_tier and names.index(request.min_tier) > names.index(request.max_tier):
        raise InvalidRequest("min_tier", f"{request.min_tier} is above max_tier {request.max_tier}", "swap them")
    if request.lane not in Lane:
        raise InvalidRequest("lane", f"{request.lane!a} is unknown", f"use one of {', '.join(Lane)}")


def _check_range(field: str, value: float | None, low: float, high: float, unit: str = "") -> None:
    if value is None:
        return
    if math.isnan(value) or not low <= value <= high:
        raise InvalidRequest(field, f"is {value}", f"give a value between {low} and {high}{unit}")


def _check_objects(field: str, text: str, what: str) -> None:
    items = _parse(field, text)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidRequest(field, "is no JSON list of objects", f"give {what} as JSON text")


def _parse(field: str, text: str) -> Any:
    """JSON that every parser reads the same way: finite numbers, no name twice, no lone surrogate."""
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_unique_names)
        json.dumps(value, ensure_ascii=False).encode()  # an escape such as \ud800 is valid JSON and no text
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(field, f"is no JSON text ({error})", "give valid JSON") from None
    if _depth(value) > MAX_JSON_DEPTH:
        raise InvalidRequest(field, f"is nested deeper than {MAX_JSON_DEPTH}", "flatten it")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{_shown(text)} is no finite number")
    return number


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has the same name twice")
    return members


def _shown(value: object) -> str:
    text = ascii(value)  # an error travels in a reply: it must not be as long as what it is about
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _depth(value: Any) -> int:
    depth, layer = 0, [value]
    while layer and depth <= MAX_JSON_DEPTH:
        depth += 1
        layer = [
            child
            for item in layer
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return depth
