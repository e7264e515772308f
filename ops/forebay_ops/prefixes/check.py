"""Checks requests for static prefixes that change: what changes, where, and what that costs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from forebay_schemas.canonical import category_of, static_turns
from forebay_schemas.records import Message, Request

from .alignment import Place, clusters, differing_places
from .atoms import Kind, atoms, kind_of, unmistakable

MOST_REQUESTS = 500
"""Of one call site; more of them would say the same, and aligning takes some milliseconds each."""
_CHARS_PER_TOKEN = 4
"""Of English prose, with the usual tokenizers."""
_LEAST_SHARE = 0.05
"""What takes fewer values than one in twenty requests costs next to nothing: a date, at a thousand requests a day."""
_LEAST_SHARE_OF_TEXT = 0.2
_LEAST_VALUES_OF_TEXT = 3
"""Text may also differ because there are several prompts: that takes more to be told."""
_MANY_PROMPTS = 5
"""So many prompts of a call site that have nothing in common are one that changes as a whole, if each is as rare."""
_SHOWN = 40
_END_OF_TURN = "\0"
"""Between turns; no text that is accepted holds it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a static prefix that changes from request to request.

    Attributes:
        call_site: the endpoint, else the category.
        requests: those with this prompt.
        certain: whether it was seen to change; else it only looks as if, in a single request.
        field: of the request, such as ``static_messages[0].content``.
        character: where in its text, from 0.
        before, after: the text around it.
        distinct: how many values it takes.
        examples: some of them.
        lost_tokens: prompt tokens from there to the end of the static prefix: no cache has them. Approximate.
        prefix_tokens: of the whole static prefix. Approximate.
        mend: what to do.
    """

    tenant: str
    call_site: str
    requests: int
    certain: bool
    field: str
    character: int
    kind: Kind
    before: str
    after: str
    distinct: int
    examples: list[str]
    lost_tokens: int
    prefix_tokens: int
    mend: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found, the most costly first."""

    requests: int
    call_sites: int
    without_prefix: int
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The static turns of one request."""

    request: Request
    turns: Sequence[Message]
    declared: bool

    @property
    def text(self) -> str:
        return _END_OF_TURN.join(f"{turn.role}\n{turn.content or ''}" for turn in self.turns)


def check(requests: Iterable[Request]) -> Checked:
    """Look for what changes in the static prefixes of requests, call site by call site."""
    count = without = 0
    sites: dict[tuple[str, str, str | None], list[_Prefix]] = {}
    for request in requests:
        count += 1
        prefix = _Prefix(request, static_turns(request), bool(request.static_messages))
        if not prefix.turns:
            without += 1
            continue
        # A new version of a prompt differs from the old one by intent.
        site = sites.setdefault((request.tenant, _call_site(request), request.prompt_version), [])
        if len(site) < MOST_REQUESTS:
            site.append(prefix)
    findings = [finding for site in sites.values() for finding in _check_site(site)]
    findings.sort(key=lambda finding: (not finding.certain, -finding.lost_tokens * finding.requests))
    return Checked(requests=count, call_sites=len(sites), without_prefix=without, findings=findings)


def _call_site(request: Request) -> str:
    return request.endpoint or category_of(request)


def _check_site(site: Sequence[_Prefix]) -> Iterable[Finding]:
    by_text: dict[str, list[_Prefix]] = {}
    for prefix in site:
        by_text.setdefault(prefix.text, []).append(prefix)
    texts = list(by_text)
    cut = [atoms(text) for text in texts]
    prompts = clusters(cut)
    if len(prompts) >= max(_MANY_PROMPTS, _LEAST_SHARE_OF_TEXT * len(site)):
        prompts = [list(range(len(texts)))]
    for members in prompts:
        alike = [prefix for member in members for prefix in by_text[texts[member]]]
        if len(alike) == 1:
            yield from _single(alike[0])
        elif len(members) > 1:
            for place in differing_places([cut[member] for member in members]):
                yield from _changing(alike, cut[members[0]], place)


def _changing(alike: Sequence[_Prefix], first: Sequence[str], place: Place) -> Iterable[Finding]:
    values = list(dict.fromkeys(place.values))
    before = "".join(first[: place.start])
    kind = kind_of(values, before)
    share = len(values) / len(alike)
    if kind.changes_by_nature:
        harmful = share >= _LEAST_SHARE
    else:
        harmful = share >= _LEAST_SHARE_OF_TEXT and len(values) >= _LEAST_VALUES_OF_TEXT
    if harmful:
        yield _finding(alike, kind, before, place.values[0], values)


def _single(prefix: _Prefix) -> Iterable[Finding]:
    found = unmistakable(prefix.text)
    if found is not None:
        kind, start, value = found
        yield _finding([prefix], kind, prefix.text[:start], value, [value])


def _finding(alike: Sequence[_Prefix], kind: Kind, before: str, value: str, values: Sequence[str]) -> Finding:
    prefix = alike[0]
    turn = before.count(_END_OF_TURN)
    # The role stands before the content, on a line of its own.
    character = len(before.rpartition(_END_OF_TURN)[2]) - len(prefix.turns[turn].role) - 1
    after = prefix.text[len(before) + len(value) :]
    return Finding(
        tenant=prefix.request.tenant,
        call_site=_call_site(prefix.request),
        requests=len(alike),
        certain=len(alike) > 1,
        field=f"{'static_messages' if prefix.declared else 'messages'}[{turn}].content",
        character=max(0, character),
        kind=kind,
        before=before.rpartition(_END_OF_TURN)[2].partition("\n")[2][-_SHOWN:],
        after=after.partition(_END_OF_TURN)[0][:_SHOWN],
        distinct=len(values),
        examples=[_shown(example) for example in values[:3]],
        lost_tokens=_tokens(len(value) + len(after)),
        prefix_tokens=_tokens(len(prefix.text)),
        mend=_mend(kind, prefix.declared),
    )


def _mend(kind: Kind, declared: bool) -> str:
    where = "the last turn of messages" if declared else "the last turn"
    mend = f"move it to {where}, so that all in front of it stays the same"
    if kind in (Kind.TIMESTAMP, Kind.TIME, Kind.EPOCH):
        mend += "; or give the day only, if that is enough"
    return mend


def _shown(value: str) -> str:
    text = " ".join(value.replace(_END_OF_TURN, " ").split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _tokens(chars: int) -> int:
    return -(-chars // _CHARS_PER_TOKEN)
