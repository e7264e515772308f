"""From a reply to the chunks of OpenAI's completion, and to headers that say where it came from."""

import json
from collections.abc import Mapping
from typing import Any

from forebay_client.openai_format import calls_of, usage
from forebay_schemas.records import Reply

CHUNK = "chat.completion.chunk"


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
        self._head = {"id": request_id, "object": CHUNK, "created": created_s, "model": model}
        self._include_usage = include_usage

    def begin(self) -> bytes:
        """Who speaks."""
        return self._delta({"role": "assistant", "content": ""})

    def text(self, piece: str) -> bytes:
        """A piece of the answer."""
        return self._delta({"content": piece})

    def end(self, reply: Reply) -> bytes:
        """All that follows the text."""
        calls = [{"index": place, **call} for place, call in enumerate(calls_of(reply))]
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
