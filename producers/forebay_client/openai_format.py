"""OpenAI's shapes for those who have them already: a chat completion's body to a request's fields, a reply back to one.

What is not supported is refused by the name of its field: an answer to something else than was asked helps nobody.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, InvalidRequest
from forebay_schemas.records import Reply, ReplyError

CHAT_COMPLETIONS = "/v1/chat/completions"
AUTO = "auto"
"""As a ``model``: the router chooses."""
ANY_OTHER = "*"
"""As an alias: every name that means nothing else."""
EXTENSION = "forebay"
"""The member of a body that holds what OpenAI has no word for: on the way in fields of a request, on the way out where
the answer came from."""

_SAME_NAME = ("temperature", "top_p", "max_tokens", "stop", "seed", "tools", "response_format", "user", "metadata")
_ONLY_DEFAULT: Mapping[str, Sequence[Any]] = {
    "n": (1,),
    "stream": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Fields that are understood where they ask for nothing more than what is done anyway."""
_PASSED_OVER = ("prompt_cache_key",)
"""It changes no answer."""
_PASSED_OVER_IN_TURNS = ("refusal", "annotations")
"""Of an answer that is sent back as it came."""
_EXTENSIONS = ("category", "endpoint", "cache", "min_tier", "max_tier", "prompt_version", "priority", "passages")
_TOLD = (
    "request_id", "cache_status", "tier", "model_id", "cost", "baseline_cost", "similarity", "matched_request_id",
    "route", "confidence", "hops", "path", "review", "arm", "prompt_version", "synthetic", "latency",
)  # fmt: skip
"""Fields of ``Reply`` that a caller is told, under the same names."""
_STATUSES = {
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.TENANT_NOT_ALLOWED: 403,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.CANCELLED: 409,
    ErrorCode.ENGINE_FAILED: 503,
    ErrorCode.GIVEN_UP: 500,
    ErrorCode.UNDELIVERABLE: 500,
    ErrorCode.INTERNAL: 500,
}


def fields_of_chat(body: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The fields of a request, as ``RequestFields``, that the body of a chat completion asks for.

    Raises:
        InvalidRequest: a field is unknown, asks for what is not supported, or contradicts another.
    """
    fields: dict[str, Any] = {}
    of_model: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for name, value in body.items():
        if value is None or name in _PASSED_OVER or name == "tool_choice":
            continue
        if name in _SAME_NAME:
            fields[name] = value
        elif name == "messages":
            fields[name] = _turns(value)
        elif name == "max_completion_tokens":
            if body.get("max_tokens") not in (None, value):
                problem = "is not max_completion_tokens, its newer name"
                raise InvalidRequest("max_tokens", problem, "leave one of them out")
            fields["max_tokens"] = value
        elif name == "safety_identifier":
            fields.setdefault("user", value)
        elif name == "model":
            tier = tier_of_model(value, config)
            of_model = {"min_tier": tier, "max_tier": tier} if tier else {}
        elif name == EXTENSION:
            ours = _extension(value)
        elif name not in _ONLY_DEFAULT:
            raise InvalidRequest(name, "is not supported", "leave it out")
        elif value not in _ONLY_DEFAULT[name]:
            raise InvalidRequest(name, f"is {value!a:.40}, which is not supported", "leave it out")
    if (choice := body.get("tool_choice")) is not None:
        fields |= _tools_to_call(choice, body.get("tools"))
    for name, tier in of_model.items():
        if name in ours:
            problem = f"contradicts model, which says already that {tier} answers"
            raise InvalidRequest(f"{EXTENSION}.{name}", problem, "leave it out")
    return fields | of_model | ours


def tier_of_model(name: Any, config: Config) -> str | None:
    """The one tier that may answer for a ``model``: one of that name, or the cheapest with that model; None where the
    router chooses, for ``auto``. Other names stand for what ``gateway.aliases`` says.

    Raises:
        InvalidRequest: the name means nothing.
    """
    aliases = config.gateway.aliases
    for known in (name, aliases.get(name), aliases.get(ANY_OTHER)) if isinstance(name, str) else ():
        if known == AUTO:
            return None
        if known in config.tiers:
            return known
        for tier, settings in config.tiers.items():
            if settings.model == known:
                return tier
    mend = f"use one of {', '.join(model_names(config))}, or make it an alias (gateway.aliases)"
    raise InvalidRequest("model", f"{name!a:.80} does not exist", mend)


def model_names(config: Config) -> list[str]:
    """Every ``model`` that means something, auto first; each once."""
    models = [tier.model for tier in config.tiers.values()]
    aliases = [alias for alias in config.gateway.aliases if alias != ANY_OTHER]
    return list(dict.fromkeys([AUTO, *config.tiers, *models, *aliases]))


def completion(reply: Reply, model: str) -> dict[str, Any]:
    """An answer as the body of a chat completion.

    Args:
        model: as it was asked for; the one that answered is in ``usage.forebay``.
    """
    calls = calls_of(reply)
    message = {"role": "assistant", "content": reply.text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    return {
        "id": reply.request_id,
        "object": "chat.completion",
        "created": reply.completed_ms // 1000,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}],
        "usage": usage(reply),
    }


def usage(reply: Reply) -> dict[str, Any]:
    """Tokens as OpenAI counts them, of a reused answer those of its generation; and where the answer came from, why,
    how fast and for how much: costs in US dollars, times in milliseconds."""
    used, told = reply.usage, msgspec.to_builtins(reply)
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_prompt_tokens},
        EXTENSION: {name: told[name] for name in _TOLD},
    }


def calls_of(reply: Reply) -> list[dict[str, Any]]:
    """The tools that an answer calls."""
    return [] if reply.tool_calls is None else msgspec.json.decode(reply.tool_calls)


def error_body(error: ReplyError) -> dict[str, Any]:
    """An error as the body of a refused call."""
    kind = "invalid_request_error" if http_status(error.code) < 500 else "server_error"
    return {"error": {"message": error.message, "type": kind, "param": None, "code": error.code}}


def http_status(code: str) -> int:
    """The HTTP status that says the same as an error code; 400 for those that are about the request."""
    return _STATUSES.get(ErrorCode(code), 400) if code in list(ErrorCode) else 500


def _extension(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(EXTENSION, "is no object", f"give one with {', '.join(_EXTENSIONS)}")
    if unknown := value.keys() - set(_EXTENSIONS):
        raise InvalidRequest(f"{EXTENSION}.{min(unknown)}", "is unknown", f"use one of {', '.join(_EXTENSIONS)}")
    return {name: said for name, said in value.items() if said is not None}


def _tools_to_call(choice: Any, tools: Any) -> dict[str, Any]:
    """What ``tool_choice`` asks for. Where it names a function, that is the only tool that is given."""
    match choice:
        case "auto":
            return {}
        case "none":
            return {"tools": None}
        case "required":
            return {"tool_choice": "required"}
        case {"type": "function", "function": {"name": str(name)}}:
            given = tools if isinstance(tools, list) else []
            named = [tool for tool in given if isinstance(tool, Mapping) and _name_of(tool) == name]
            if not named:
                raise InvalidRequest("tool_choice", f"names {name!a:.80}, which is none of tools", "name one of them")
            return {"tools": named, "tool_choice": "required"}
    mend = "give auto, none, required, or a function by its name"
    raise InvalidRequest("tool_choice", f"is {choice!a:.60}, which is not supported", mend)


def _name_of(tool: Mapping[str, Any]) -> Any:
    function = tool.get("function")
    return function.get("name") if isinstance(function, Mapping) else None


def _turns(messages: Any) -> list[Any]:
    if not isinstance(messages, list):
        raise InvalidRequest("messages", "is no list", "give the turns of a conversation")
    return [_turn(f"messages[{place}]", turn) for place, turn in enumerate(messages)]


def _turn(path: str, turn: Any) -> Any:
    if not isinstance(turn, Mapping):
        raise InvalidRequest(path, "is no object", 'give one such as {"role": "user", "content": "..."}')
    turn = {name: value for name, value in turn.items() if value is not None and name not in _PASSED_OVER_IN_TURNS}
    if isinstance(parts := turn.get("content"), list):
        turn["content"] = "".join(_text(f"{path}.content[{place}]", part) for place, part in enumerate(parts))
    return turn


def _text(path: str, part: Any) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    kind = part.get("type") if isinstance(part, Mapping) else part
    raise InvalidRequest(f"{path}.type", f"is {kind!a:.40}, which is not supported", "give text alone")
