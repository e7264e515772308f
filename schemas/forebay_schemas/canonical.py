"""What makes two requests equal: the canonical form of a request, and its digests.

The table in ``docs/equality.md`` is this module in words. Two requests are equal when everything that can change
the answer is equal; whitespace that carries no meaning, Unicode form, ids and metadata do not count.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from .records import CacheScope, Message, Request

CANONICAL_VERSION = 2
"""Part of every digest: a change of this form makes old cache entries unreachable, never wrong."""

# Three or more marks at the start of a line; backticks after backticks on one line are inline code (CommonMark).
_FENCE = re.compile(r"`{3,}(?=[^`]*$)|~{3,}")


@dataclass(frozen=True)
class Digests:
    """The digests of one request, each 32 hex digits and worked out when it is asked for: an exact hit needs but one.

    Attributes:
        around: the canonical form of everything besides the turns.
        turns: their canonical form.
        static: how many of them are static.
        arm: of a rollout, whose answers only its requests share; None: in no arm.
    """

    around: list[Any]
    turns: list[list[Any]]
    static: int
    arm: str | None = None

    @cached_property
    def exact(self) -> str:
        """Of the whole canonical form; equal requests share it."""
        return self._in_arm(_digest(["exact", self.around, self.turns]))

    @cached_property
    def context(self) -> str | None:
        """Of all but the last user turn's text; requests may be compared by meaning only where it is equal. None where
        the last turn is not the user's."""
        *turns, (role, _, *rest_of_last) = self.turns
        return self._in_arm(_digest(["context", self.around, turns, rest_of_last])) if role == "user" else None

    @cached_property
    def prefix(self) -> str | None:
        """Of the static turns, the breakpoint for prefix caches. None where there are none."""
        return _digest(["prefix", self.turns[: self.static]]) if self.static else None

    def in_arm(self, arm: str | None) -> "Digests":
        """Those of the request in an arm of a rollout."""
        return self if arm is None else replace(self, arm=arm)

    def _in_arm(self, digest: str) -> str:
        return digest if self.arm is None else _digest(["arm", self.arm, digest])


def category_of(request: Request) -> str:
    """The name under which reuse and routing are configured for a request."""
    return request.category or request.endpoint or "default"


def all_messages(request: Request) -> list[Message]:
    """The turns as the model sees them: static ones first."""
    return [*request.static_messages, *request.messages]


def static_turns(request: Request) -> list[Message]:
    """The turns that prefix caches can share: those declared static, else the system turns at the beginning."""
    turns = all_messages(request)
    leading = takewhile(lambda turn: turn.role in ("system", "developer"), turns)
    return turns[: len(request.static_messages)] or list(leading)


def question_of(request: Request) -> str | None:
    """The last turn's canonical text where the user spoke last, else None: what is compared by meaning."""
    last = request.messages[-1] if request.messages else None
    return canonical_text(last.content or "") if last and last.role == "user" else None


def digests(request: Request) -> Digests:
    """The digests of a valid request."""
    turns = [_canonical_message(message) for message in all_messages(request)]
    return Digests(around=_context(request), turns=turns, static=len(static_turns(request)))


def canonical_text(text: str) -> str:
    """Normalise what carries no meaning: Unicode form (NFC), line ends, runs of spaces and of blank lines.

    Kept as they are: code between fences (an unclosed one runs to the end), the inside of lines that hold inline
    code or tabs (cells of a table), and the indentation of all lines but the first. Takes time linear in the
    length, given what validation allows.
    """
    text = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip()
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if fence:
            mark = line.strip()
            if mark.startswith(fence) and not mark.strip(fence[0]):
                fence, line = "", line.rstrip()
            lines.append(line)
            continue
        line = _canonical_line(line)
        opening = _FENCE.match(line.lstrip())
        fence = opening.group() if opening else ""
        if line or (lines and lines[-1]):  # of a run of blank lines, the first
            lines.append(line)
    return "\n".join(lines)


def canonical_json(text: str | None) -> str | None:
    """JSON text without spacing and needless escapes; None stays None. The order of keys stays: it shapes answers."""
    return None if text is None else json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


def _canonical_line(line: str) -> str:
    line = line.rstrip()
    if "`" in line or "\t" in line:
        return line
    body = line.lstrip()
    return line[: len(line) - len(body)] + " ".join(body.split())


def _canonical_message(message: Message) -> list[Any]:
    return [
        message.role,
        canonical_text(message.content) if message.content is not None else None,
        message.name,
        canonical_json(message.tool_calls),
        message.tool_call_id,
    ]


def _context(request: Request) -> list[Any]:
    scope = request.cache.scope
    return [
        CANONICAL_VERSION,
        scope,
        None if scope == CacheScope.SHARED else request.tenant,
        request.user if scope == CacheScope.USER else None,
        # A category's settings (policy, system prompt addition of its tier) shape the answer, and an entry's
        # category must be known before it is read so that its epoch comes in the same round trip.
        category_of(request),
        request.prompt_version,
        sorted(set(request.cache.sources)),
        request.max_tokens,
        _number(request.temperature),
        _number(request.top_p),
        sorted(set(request.stop)),
        request.seed,
        canonical_json(request.tools),
        canonical_json(request.response_format),
        [canonical_text(passage) for passage in request.passages],
        # Only where it is: what was kept before there was one is still known.
        *([] if request.tool_choice is None else [request.tool_choice]),
    ]


def _number(value: float | None) -> float | None:
    return None if value is None else float(value) + 0.0  # -0.0 and 0.0 ask for the same


def _digest(value: Any) -> str:
    # JSON with sorted keys is injective over what occurs here (strings, numbers, lists, objects, null), and a
    # list keeps neighbours apart, so nothing can be moved from one field into the next.
    data = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(data.encode(), digest_size=16).hexdigest()
