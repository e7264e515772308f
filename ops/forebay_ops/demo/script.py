"""The script of the demo: the lines of ``requests.jsonl`` and the requests they become.

Millrace sells garden pumps, its brands Koiwell and Rainhold all for ponds and rain barrels: three tenants, one
support desk. A line is a request's own fields, where they differ from the defaults here, and these:

======================= ==============================================================================================
``at``                  the moment: lines of one moment are sent together, moments in order
``expect``              how it is answered: a cache status, ``error`` or ``dead_letter``
``name``, ``after``     a line's name, and the name of the line that must be answered before this one is sent
``note``                what it shows
``question``            short for ``messages`` of one user turn
``deadline_s``          the deadline, in seconds from sending
``unchecked``           true: sent past the client, which would refuse it
``raw``                 text that is sent in place of a request; without ``tenant`` also without any header
======================= ==============================================================================================
"""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from forebay_schemas.records import Request

DEFAULTS: dict[str, Any] = {
    "category": "support",
    # Answers end after their first sentence and vary little, so that a small model on two cores answers all misses
    # within a minute; one that `max_tokens` cuts would not be kept for reuse.
    "max_tokens": 64,
    "stop": [". ", "\n"],
    "temperature": 0.0,
}

_SYSTEM_PROMPTS = {
    "millrace": "You are the support desk of Millrace, a shop for garden pumps. Answer in one short sentence.",
    "koiwell": "You are the support desk of Koiwell, a shop for garden ponds. Answer in one short sentence.",
    "rainhold": "You are the support desk of Rainhold, a shop for rain barrels. Answer in one short sentence.",
}


class Expect(StrEnum):
    """How a line is answered when all works: the cache statuses, and two ways to go wrong."""

    EXACT = "exact"
    SEMANTIC = "semantic"
    JOINED = "joined"
    MISS = "miss"
    BYPASS = "bypass"
    ERROR = "error"
    DEAD_LETTER = "dead_letter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the script.

    Attributes:
        number: its place in the file, from 1.
        fields: the request's own, without ids and times; empty where ``raw`` stands in its place.
    """

    number: int
    at: int
    expect: Expect
    tenant: str | None = None
    name: str | None = None
    after: str | None = None
    note: str | None = None
    raw: str | None = None
    unchecked: bool = False
    deadline_s: float | None = None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """What is shown of it: the last turn, or the raw text."""
        return self.raw if self.raw is not None else self.fields["messages"][-1]["content"]

    def request_id(self, run: str) -> str:
        """Unique among all runs, and tells the line."""
        return f"demo-{run}-{self.number}"

    def request(self, run: str, now_ms: int) -> Request:
        """The request to send now.

        Args:
            run: names this run of the demo. As the prompt version it is part of what makes requests equal, so every
                run begins without answers to reuse, whatever the caches hold from earlier ones.
            now_ms: the time.
        """
        times = {"created_ms": now_ms}
        if self.deadline_s is not None:
            times["deadline_ms"] = now_ms + round(self.deadline_s * 1000)
        ids = {"request_id": self.request_id(run), "tenant": self.tenant, "prompt_version": f"demo-{run}"}
        return msgspec.convert(self.fields | ids | times, Request)


def load_script() -> list[Line]:
    """The shipped lines, in order."""
    text = Path(__file__).with_name("requests.jsonl").read_text(encoding="utf-8")
    return [_parse(number, json.loads(line)) for number, line in enumerate(text.splitlines(), start=1)]


def _parse(number: int, raw: dict[str, Any]) -> Line:
    own = {name: raw.pop(name) for name in _OWN if name in raw}
    own["expect"] = Expect(own["expect"])
    return Line(number=number, fields=_request_fields(own["tenant"], raw) if "raw" not in own else {}, **own)


def _request_fields(tenant: str, fields: dict[str, Any]) -> dict[str, Any]:
    if "question" in fields:
        fields["messages"] = [{"role": "user", "content": fields.pop("question")}]
    if "response_format" in fields:
        fields["response_format"] = json.dumps(fields["response_format"])
    static = [{"role": "system", "content": _SYSTEM_PROMPTS[tenant]}]
    return DEFAULTS | {"static_messages": static} | fields


_OWN = frozenset(Line.__dataclass_fields__) - {"number", "fields"}
