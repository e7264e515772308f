"""One request of a trace, and its line in our own form."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request, and when it comes.

    Attributes:
        at_ms: milliseconds since the first arrival of the trace; never less than those of the one before.
        fields: of the request, as a line of ``forebay send`` has them; empty where the trace tells no text.
        label: what the question means: two of one label may share an answer, two of different labels may not.
        right: by tier, whether its answer is right, where somebody judged that.
        prompt_tokens, completion_tokens: as they were counted where the trace was recorded.
    """

    at_ms: float
    fields: dict[str, Any] = field(default_factory=dict)
    label: str | None = None
    right: dict[str, bool] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def asks(self) -> bool:
        """Whether the trace tells what is asked."""
        return not self.fields.keys().isdisjoint(("question", "messages"))

    def with_defaults(self, fields: dict[str, Any]) -> "Arrival":
        """The same, with fields that it does not have."""
        return replace(self, fields=fields | self.fields)

    def line(self) -> bytes:
        """Our own form: ``forebay replay`` and ``forebay plan simulate`` read it, and ``reading`` gives it back."""
        told = {
            "label": self.label,
            "right": self.right,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }
        known = {name: value for name, value in told.items() if value is not None}
        return msgspec.json.encode({"at_ms": round(self.at_ms, 3)} | self.fields | known) + b"\n"
