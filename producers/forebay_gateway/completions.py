"""From a reply to OpenAI's completion, whole or in chunks; ``usage.forebay`` and headers say where it came from."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
from forebay_schemas.records import Reply

COMPLETION = "chat.completion"
CHUNK = "chat.completion.chunk"

_TOLD = (
    "request_id", "cache_status", "tier", "model_id", "cost", "baseline_cost", "similarity", "matched_request_id",
    "route", "confidence", "hops", "path", "review", "arm", "prompt_version", "synthetic", "latency",
)  # fmt: skip
"""Fields of ``Reply`` that a caller is told, under the same names."""


def completion(reply: Reply, model: str) -> dict[str, Any]:
    """The whole completion.

    Args:
        model: as it was asked for; the one that answered is in ``usage.forebay``.
    """
    calls = _calls(reply)
    message = {"role": "assistant", "content": reply.text or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
    head = _head(reply.request_id, reply.completed_ms // 1000, model, COMPLETION)
    return {**head, "choices": [choice], "usage": usage(reply)}


def usage(reply: Reply) -> dict[str, Any]:
    """Tokens as OpenAI counts them, of a reused answer those of its generation; and where the answer came from."""
    used = reply.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_prompt_tokens},
        "forebay": attribution(reply),
    }


def attribution(reply: Reply) -> dict[str, Any]:
    """Where an answer came from, why, how fast and for how much: costs in US dollars, times in milliseconds."""
    told = msgspec.to_builtins(reply)
    return {name: told[name] for name in _TOLD}


def headers(reply: Reply) -> dict[str, str]:
    """The gist of the attribution, for whoever does not read bodies."""
    return {
        **request_headers(reply.request_id),
        "x-forebay-cache": reply.cache_status,
        "x-forebay-tier": reply.tier or "none",
        "x-forebay-model": reply.model_id or "none",
        "x-forebay-cost": f"{reply.cost:.9f}",
    }


def request_headers(request_id: str) -> dict[str, str]:
    """What is known before there is a reply."""
    return {"x-request-id": request_id, "x-forebay-request-id": request_id}


class Chunks:
    """The events of one stream.

    Args:
        created_s: seconds since the Unix epoch.
    """

    def __init__(self, request_id: str, created_s: int, model: str, include_usage: bool) -> None:
        self._head = _head(request_id, created_s, model, CHUNK)
        self._include_usage = include_usage

    def begin(self) -> bytes:
        """Who speaks."""
        return self._delta({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._delta({"content": piece})

    def end(self, reply: Reply) -> bytes:
        """All that follows the text."""
        calls = [{"index": place, **call} for place, call in enumerate(_calls(reply))]
        events = self._delta({"tool_calls": calls}) if calls else b""
        events += self._delta({}, reply.finish_reason)
        if self._include_usage:
            events += event({**self._head, "choices": [], "usage": usage(reply)})
        return events + b"data: [DONE]\n\n"

    def _delta(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        without = {"usage": None} if self._include_usage else {}
        return event({**self._head, "choices": [choice], **without})


def event(value: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [] if reply.tool_calls is None else json.loads(reply.tool_calls)


def _head(request_id: str, created_s: int, model: str, kind: str) -> dict[str, Any]:
    return {"id": request_id, "object": kind, "created": created_s, "model": model}
