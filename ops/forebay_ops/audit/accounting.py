"""Walks through the calls of a log in order, as the job would have met them, and adds up what each would have cost."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from forebay_jobs.reuse.eligibility import Reuse, reuse_of
from forebay_jobs.router.router import Router
from forebay_schemas.canonical import all_messages, category_of, digests, question_of, static_turns
from forebay_schemas.config import Config
from forebay_schemas.prices import cost
from forebay_schemas.records import CachePolicy, Request
from forebay_schemas.tiers import Price

from .questions import Asked, Nearness, Questions
from .reading import Call

BATCH = 512
"""Calls that are looked through at once: enough to keep the embedder and the matrix products busy."""
MOST_DIGESTS = 1_000_000
"""Digests that are remembered of each kind, 0.2 GB; the oldest are forgotten first, as in a cache that is full."""

EXACT, NEAR = "exact repeat", "near repeat"
"""How a call is answered without a tier; no tier can have such a name."""


@dataclass(slots=True)
class Sums:
    """Calls that are answered in one way: what they cost, and what they would have."""

    calls: int = 0
    today: float = 0.0
    then: float = 0.0

    def add(self, today: float, then: float) -> None:
        """Count a call by its dollars."""
        self.calls += 1
        self.today += today
        self.then += then


@dataclass(slots=True)
class Prefixes:
    """Prompt tokens, and those of static turns that an earlier prompt had too; shares are by characters."""

    prompt_tokens: float = 0.0
    repeated_tokens: float = 0.0

    def add(self, prompt_tokens: int, repeated_tokens: float) -> None:
        """Count a prompt."""
        self.prompt_tokens += prompt_tokens
        self.repeated_tokens += repeated_tokens


_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """The newest keys, each with a value; bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[bytes, _Value] = {}
        self.forgotten = 0

    def get(self, key: bytes) -> _Value | None:
        """The value of a key, None where it is not known (any more)."""
        return self._values.get(key)

    def put(self, key: bytes, value: _Value) -> None:
        """Note a key as the newest."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]
            self.forgotten += 1


@dataclass(slots=True)
class Side:
    """One way to run: the digests of answers that are kept, with when they were, and the sums by how it answers."""

    kept: Recent[float]
    sums: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))


@dataclass(frozen=True, slots=True)
class _Judged:
    """A call, and what the job's own rules say about it."""

    call: Call
    reuse: Reuse
    digest: bytes
    today: float
    tier: str
    routed: float
    """Dollars at that tier."""
    at_s: float
    exact_ttl_s: float
    row: int | None
    """Of its question, where that was embedded."""
    asked: Asked | None
    """How it is looked up by meaning, where it may be."""
    prefix_repeated: float
    """Prompt tokens that repeat the static turns of an earlier call."""

    @property
    def reads(self) -> bool:
        """Whether a kept answer may be given."""
        return self.reuse.allowed and self.call.request.cache.policy is CachePolicy.USE

    @property
    def keeps(self) -> bool:
        """Whether its answer is kept for others."""
        return self.reuse.allowed and self.call.complete


class Audit:
    """The calls so far, on two sides: with the exact cache only, and with the semantic one beside it.

    The second is an upper bound: which of the near questions ask for the same answer, nobody has judged.
    """

    def __init__(
        self, config: Config, prices: Mapping[str, Price], questions: Questions, most_digests: int = MOST_DIGESTS
    ) -> None:
        """``prices`` has the price of every model of the log."""
        self.config = config
        self.questions = questions
        self.exact_only = Side(Recent(most_digests))
        self.with_near = Side(Recent(most_digests))
        self.reuse: Counter[Reuse] = Counter()
        self.models: defaultdict[str, Sums] = defaultdict(Sums)
        self.categories: set[str] = set()
        self.prefixes, self.prefixes_generated = Prefixes(), Prefixes()
        self.calls = self.timed = self.looked_up = 0
        self.today = 0.0
        self.first_s, self.last_s = math.inf, -math.inf
        self._prices = prices
        self._router = Router(config)
        self._nearness = Nearness(questions)
        self._prefixes: Recent[bool] = Recent(most_digests)

    @property
    def forgotten(self) -> int:
        """Digests and questions that found no room, of all kinds."""
        digests = self.exact_only.kept.forgotten + self.with_near.kept.forgotten + self._prefixes.forgotten
        return digests + self._nearness.left_out

    def take(self, calls: Sequence[Call]) -> None:
        """Go on with the next calls of the log, some hundreds at once.

        Raises:
            KeyError: the model of a call has no price.
        """
        rows = self.questions.rows([question_of(call.request) for call in calls])
        judged = [self._judge(call, row) for call, row in zip(calls, rows, strict=True)]
        # What is in the exact cache already is not looked up; all others are compared in one go.
        looked = {
            place: item.asked
            for place, item in enumerate(judged)
            if item.asked and item.reads and not _fresh(self.with_near, item)
        }
        starts = {asked.context: self._nearness.known(asked.context) for asked in looked.values()}
        nearest = dict(zip(looked, self._nearness.look(list(looked.values())), strict=True))
        for place, item in enumerate(judged):
            self._count(item)
            self._answer(self.exact_only, item, near=False)
            asked = looked.get(place)
            near = asked is not None and self._near_enough(item, asked, nearest[place], starts[asked.context])
            if self._answer(self.with_near, item, near) not in (EXACT, NEAR):
                self.prefixes_generated.add(item.call.usage.prompt_tokens, item.prefix_repeated)
                if item.asked and item.keeps:
                    self._nearness.learn(item.asked)

    def _judge(self, call: Call, row: int | None) -> _Judged:
        request = call.request
        reuse, keys = reuse_of(request, self.config), digests(request)
        grasped = row if row is not None and self.questions.grasped(row) else None
        vector = None if grasped is None else self.questions.vectors([grasped])[0]
        tier = self._router.route(request, vector).tier
        category = self.config.category(category_of(request))
        most_s = request.cache.ttl_s or math.inf
        at_s = math.nan if call.at_s is None else call.at_s
        asked = None
        if reuse is Reuse.SEMANTIC and grasped is not None and keys.context:
            asked = Asked(context=keys.context, row=grasped, at_s=at_s, ttl_s=min(category.semantic_ttl_s, most_s))
        return _Judged(
            call=call,
            reuse=reuse,
            digest=bytes.fromhex(keys.exact),
            today=cost(call.usage, self._prices[call.model], request.lane),
            tier=tier,
            routed=cost(call.usage, self.config.price(tier), request.lane),
            at_s=at_s,
            exact_ttl_s=min(category.exact_ttl_s, most_s),
            row=row,
            asked=asked,
            prefix_repeated=self._repeated(call, keys.prefix),
        )

    def _repeated(self, call: Call, prefix: str | None) -> float:
        if prefix is None:
            return 0.0
        key = bytes.fromhex(prefix)
        if not self._prefixes.get(key):
            self._prefixes.put(key, True)
            return 0.0
        request = call.request
        static = sum(len(turn.content or "") for turn in static_turns(request))
        return call.usage.prompt_tokens * static / _prompt_chars(request)

    def _count(self, item: _Judged) -> None:
        """What is the same on both sides."""
        call = item.call
        self.calls += 1
        self.today += item.today
        self.reuse[item.reuse] += 1
        self.models[call.model].add(item.today, item.today)
        if item.asked is not None:
            self.looked_up += 1
            name = category_of(call.request)
            self.categories.add(name if name in self.config.categories else "default")
        self.prefixes.add(call.usage.prompt_tokens, item.prefix_repeated)
        if item.row is not None:
            self.questions.charge(item.row, item.today)
        if call.at_s is not None:
            self.timed += 1
            self.first_s, self.last_s = min(self.first_s, call.at_s), max(self.last_s, call.at_s)

    def _near_enough(self, item: _Judged, asked: Asked, before: float, start: int) -> bool:
        """``before`` is the similarity found before the batch, when ``start`` questions of the context were known."""
        similarity = max(before, self._nearness.look_since(asked, start))
        return similarity >= self.config.category(category_of(item.call.request)).similarity

    def _answer(self, side: Side, item: _Judged, near: bool) -> str:
        """How a side answers a call: ``EXACT``, ``NEAR`` or the name of a tier."""
        if item.reads and _fresh(side, item):
            way, then = EXACT, 0.0
        elif near:
            way, then = NEAR, 0.0
        else:
            way, then = item.tier, item.routed
            if item.keeps:
                side.kept.put(item.digest, item.at_s)
        side.sums[way].add(item.today, then)
        return way


def _fresh(side: Side, item: _Judged) -> bool:
    """Whether an equal call was answered, and not too long before (or after: see ``Nearness``)."""
    kept_s = side.kept.get(item.digest)
    return kept_s is not None and not abs(item.at_s - kept_s) > item.exact_ttl_s  # NaN is never too old


def _prompt_chars(request: Request) -> int:
    """Characters that the model reads, at least 1; tools and passages count."""
    turns = sum(len(turn.content or "") for turn in all_messages(request))
    return max(1, turns + len(request.tools or "") + sum(map(len, request.passages)))
