"""Shadows: some requests that a tier answered are answered by another one too, and what differs is told as an `Audit`.

A second answer is asked for on the batch lane, past all caches, and nobody is shown it. What it is compared with lies
in its flight, so in the desk's state; the comparison is made aside (`judging.aside`), and asked for anew where the
process that made it is gone. An audit is lost only where its flight ends without a result; one that is written twice
has the same request id, reason and tier.
"""

import hashlib
import logging

import msgspec
from forebay_schemas.canonical import question_of
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Audit, CacheOptions, CachePolicy, Hop, Lane, Reply, Request, Route

from .arms import Arms, both
from .desk_state import DeskState
from .flights import lead
from .judging.aside import JudgeAside
from .judging.judge import Agreement, Pair
from .judging.model import verdict_of
from .messages import Asker, Flight, Outgoing, Shadow, Shadowed
from .own_requests import own_arrival
from .reuse.decision import lot
from .sampling import Sampler
from .verdicts import verdict_on

LOOK_MS = 1_000
"""Time between two looks whether a comparison is made."""
JUDGED_WITHIN_MS = 120_000
"""A comparison that is not made by then is given up: the judge has too much to do, or fails."""
MOST_BYTES = 64 * 1024
"""Of a request and its answer together, and of the second answer: they wait in the desk's state, and the judge would
not compare longer ones."""
_OUTCOMES = ("agrees", "differs", "unsure", "failed", "skipped")
"""All begin at zero at once: what first appears as 1 has no increase, and an alert would miss it."""
QUESTION_CHARS = 8_000
"""Of a question that an audit keeps: more than embedding models read."""
_PRIORITY = -100
"""Among the tasks of the batch lane: after those that somebody waits for."""

ROLLOUT = "rollout"
"""Begins the reason of what is asked for a rollout; its name follows behind a slash."""

logger = logging.getLogger(__name__)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a flight that waits for a second answer.

    Attributes:
        flight: how it goes on; None: it is over. One without a task is to be dispatched.
    """

    sent: list[Outgoing] = []
    flight: Flight | None = None


class Shadows:
    """Those of one slot. The methods return what is to be written; the desk keeps the flights."""

    def __init__(
        self, config: Config, codec: Codec, judge: JudgeAside, metrics: JobMetrics, arms: Arms | None = None
    ) -> None:
        self._config = config
        self._arms = arms or Arms(config)
        self._codec = codec
        self._judge = judge
        self._metrics = metrics
        self._audited = Sampler(config.audits.at_least_every_s)
        self._remembered = Sampler()
        self._rolled_out = Sampler()

    def answered(self, state: DeskState, flight: Flight, reply: Reply, encoded: bytes, now_ms: int) -> list[Outgoing]:
        """A tier answered the leader of a flight: what is learned from that at once, and what is asked besides.

        A defect here is logged: those who wait for the answer must not miss it.
        """
        try:
            return self._answered(state, flight, reply, encoded, now_ms)
        except Exception:
            logger.exception("an answer is not audited, on a defect")
            return []

    def begin(self, state: DeskState, flight: Flight, encoded: bytes, shadow: Shadow, now_ms: int) -> bool:
        """Have a request that was answered answered once more; False where that cannot be.

        There are ``audits.most_open`` places for those that wait, and a request has one of them by its name: so the
        state is bounded, and the same request does not wait twice.

        Args:
            flight: that was answered, with its request.
            encoded: the reply that was served.
        """
        request = self._codec.decode(flight.leader.request, Request)
        name = _digest(flight.leader.asker, shadow)
        key = f"^{int(name, 16) % self._config.audits.most_open}"
        if not self._suits(request, flight, encoded) or state.flight(key) is not None:
            return False
        asked = msgspec.structs.replace(
            request,
            request_id=f"shadow-{name}",
            created_ms=now_ms,
            lane=Lane.BATCH,
            priority=_PRIORITY,
            cache=CacheOptions(policy=CachePolicy.BYPASS),
            deadline_ms=None,
            stream=False,
            user=None,
            metadata={},
            min_tier=shadow.tier or request.min_tier,  # with both bounds no other tier stands in for this one
            max_tier=shadow.tier or request.max_tier,
        )
        arrival = own_arrival(asked, flight.leader.asker.origin, flight.leader.bucket, self._config, self._codec)
        shadowed = Shadowed(shadow=shadow, reply=encoded, question=_question(request))
        self._metrics.flights_opened.inc()
        second = Flight(
            leader=arrival,
            lane=Lane.BATCH,
            route=_route(flight, shadow),
            vector=flight.vector,  # by which another arm routes; its own request is not embedded again
            shadowed=shadowed,
        )
        lead(state, key, second)
        state.add_pending(key)
        return True

    def landed(self, flight: Flight, reply: Reply, encoded: bytes, now_ms: int) -> Step:
        """The second answer came, or the large tier's word on what the judge left open."""
        shadowed = _shadowed(flight)
        if shadowed.asked:
            return Step(sent=[self._compared(shadowed, verdict_of(reply), "model", now_ms)])
        shadowed = msgspec.structs.replace(shadowed, other=encoded)
        if reply.error is not None or len(encoded) > MOST_BYTES:
            return Step(sent=[self._compared(shadowed, None, None, now_ms)])
        flight = msgspec.structs.replace(flight, shadowed=shadowed, expires_ms=now_ms + JUDGED_WITHIN_MS)
        return self.compare(flight, now_ms)

    def compare(self, flight: Flight, now_ms: int) -> Step:
        """Look whether the judge has compared the two answers."""
        shadowed, asker = _shadowed(flight), flight.leader.asker
        found = self._judge.agreement(asker.name, lambda: self._pair(flight))
        if found is None and now_ms < flight.expires_ms:
            return Step(flight=flight)
        if found is not None and lot(asker.name, b"audit") < self._judge.judge.model_share(asker.category, found):
            verdict = self._ask_model(flight, shadowed, now_ms)
            if verdict is not None:
                return Step(flight=verdict)
        found = found or Agreement(equal=None, by="text")
        return Step(sent=[self._compared(shadowed, found.equal, found.by, now_ms)])

    def _answered(self, state: DeskState, flight: Flight, reply: Reply, encoded: bytes, now_ms: int) -> list[Outgoing]:
        left = {hop.tier: hop for hop in reply.path if hop.reason != "unavailable" and hop.tier != reply.tier}
        sent = [self._escalated(reply, hop, self._asked(flight), now_ms) for hop in left.values()]
        if not reply.complete:
            return sent  # half an answer says nothing about whole ones
        tier, category = reply.tier or "", self._category(reply.category)
        self._roll_out(state, flight, reply, encoded, now_ms)
        second = self._second_tier(tier, flight.leader.asker)
        share = self._config.category(reply.category).audit_share
        share = self._config.audits.share if share is None else share
        weight = second and self._audited.take((tier, category), share, now_ms)
        if second and weight:
            shadow = Shadow(reason=second[0], tier=second[1], arm=reply.arm, weight=weight)
            if self.begin(state, flight, encoded, shadow, now_ms):
                return sent
            self._count(shadow.reason, category, tier, "skipped")
        if self._remembered.take((tier, category), self._config.audits.remembered, now_ms):
            audit = _about(reply, now_ms, "remembered", arm=reply.arm, question=self._asked(flight))
            sent.append(self._write(audit))
        return sent

    def _roll_out(self, state: DeskState, flight: Flight, reply: Reply, encoded: bytes, now_ms: int) -> None:
        """Have what rollouts would answer told too, of a share of the requests."""
        for rollout in self._arms.shadows():
            weight = self._rolled_out.take((rollout.name,), rollout.guards.shadow_share, now_ms)
            if weight:
                arm = both(reply.arm, rollout.arm)
                shadow = Shadow(reason=f"{ROLLOUT}/{rollout.name}", arm=arm, weight=weight)
                if not self.begin(state, flight, encoded, shadow, now_ms):
                    self._count(shadow.reason, self._category(reply.category), reply.tier or "", "skipped")

    def _suits(self, request: Request, flight: Flight, encoded: bytes) -> bool:
        """Whether a second answer to a request says something. One that asks for variety gets another one each time."""
        varied = (request.temperature or 0.0) > self._config.category(flight.leader.asker.category).max_temperature
        return not varied and len(flight.leader.request) + len(encoded) <= MOST_BYTES

    def _second_tier(self, tier: str, asker: Asker) -> tuple[str, str] | None:
        """Who is to answer too, and why: the tier above, or else the one below, as far as the request allows it."""
        names = list(self._config.tiers)
        if tier not in names:
            return None
        least = names.index(asker.min_tier) if asker.min_tier in names else 0
        most = names.index(asker.max_tier) if asker.max_tier in names else len(names) - 1
        place = names.index(tier)
        if place + 1 <= most:
            return "tier_above", names[place + 1]
        return ("tier_below", names[place - 1]) if place - 1 >= least else None

    def _pair(self, flight: Flight) -> Pair:
        request = self._codec.decode(flight.leader.request, Request)
        first, other = self._replies(_shadowed(flight))
        as_json = request.response_format is not None or request.tools is not None
        return Pair(category=first.category, one=first.said, other=other.said if other else "", as_json=as_json)

    def _ask_model(self, flight: Flight, shadowed: Shadowed, now_ms: int) -> Flight | None:
        leader, pair = flight.leader, self._pair(flight)
        question = question_of(self._codec.decode(leader.request, Request))
        texts = (question or "", pair.one, pair.other)
        arrival = verdict_on(
            leader.asker.request_id,
            leader.asker.tenant,
            texts,
            bucket=leader.bucket,
            config=self._config,
            codec=self._codec,
            now_ms=now_ms,
        )
        return arrival and Flight(
            leader=arrival, lane=Lane.BATCH, shadowed=msgspec.structs.replace(shadowed, asked=True)
        )

    def _compared(self, shadowed: Shadowed, agrees: bool | None, by: str | None, now_ms: int) -> Outgoing:
        first, other = self._replies(shadowed)
        shadow = shadowed.shadow
        audit = _about(first, now_ms, shadow.reason, weight=shadow.weight, arm=shadow.arm, question=shadowed.question)
        if other is not None:
            audit = msgspec.structs.replace(
                audit,
                other_tier=other.tier,
                other_model_id=other.model_id,
                other_cost=other.cost,
                other_latency_ms=other.latency.generation_ms,
                other_error=other.error.code if other.error else None,
                agrees=agrees,
                judged_by=None if agrees is None else by,
            )
        outcome = {None: "unsure", True: "agrees", False: "differs"}[agrees]
        outcome = "failed" if audit.other_error else outcome
        self._count(shadow.reason, self._category(first.category), audit.tier, outcome)
        return self._write(audit)

    def _escalated(self, reply: Reply, hop: Hop, question: str | None, now_ms: int) -> Outgoing:
        """The tier whose answer did not go out was not good enough, as far as its worker could tell."""
        audit = msgspec.structs.replace(
            _about(reply, now_ms, "escalation", arm=reply.arm, question=question),
            tier=hop.tier,
            model_id=hop.model_id,
            cost=hop.cost,
            latency_ms=0.0,  # hops do not tell theirs
            other_tier=reply.tier,
            other_model_id=reply.model_id,
            agrees=False,
            judged_by=hop.reason,
        )
        return self._write(audit)

    def _asked(self, flight: Flight) -> str | None:
        return _question(self._codec.decode(flight.leader.request, Request))

    def _write(self, audit: Audit) -> Outgoing:
        return Outgoing(
            topic=self._config.kafka.topics.audit, key=audit.request_id.encode(), value=self._codec.encode(audit)
        )

    def _replies(self, shadowed: Shadowed) -> tuple[Reply, Reply | None]:
        first = self._codec.decode(shadowed.reply, Reply)
        return first, self._codec.decode(shadowed.other, Reply) if shadowed.other else None

    def _category(self, name: str) -> str:
        """A sender may name any category; those without settings of their own are one."""
        return name if name in self._config.categories else "default"

    def _count(self, reason: str, category: str, tier: str, outcome: str) -> None:
        counted = {
            each: self._metrics.audits.labels(reason.partition("/")[0], category, tier, each) for each in _OUTCOMES
        }
        counted[outcome].inc()


def _about(reply: Reply, now_ms: int, reason: str, **fields: object) -> Audit:
    """What every audit says of the answer that was served."""
    return Audit(
        request_id=reply.request_id,
        tenant=reply.tenant,
        audited_ms=now_ms,
        reason=reason,
        tier=reply.tier or "",
        model_id=reply.model_id or "",
        category=reply.category,
        cost=reply.cost - sum(hop.cost for hop in reply.path),
        latency_ms=reply.latency.generation_ms,
        features=reply.route.features if reply.route else {},
        **fields,  # pyright: ignore[reportArgumentType]: the callers', checked when it is encoded
    )


def _shadowed(flight: Flight) -> Shadowed:
    assert flight.shadowed is not None, "the desk hands over no other flights"
    return flight.shadowed


def _route(flight: Flight, shadow: Shadow) -> Route | None:
    if shadow.tier is None or flight.route is None:
        return None
    return msgspec.structs.replace(flight.route, tier=shadow.tier)


def _question(request: Request) -> str | None:
    question = question_of(request)
    return question and question[:QUESTION_CHARS]


def _digest(asker: Asker, shadow: Shadow) -> str:
    """With the arm: a rollout that is started anew under its name is another one, and asks of its own."""
    name = [asker.name, shadow.reason, *([shadow.arm] if shadow.arm else [])]
    return hashlib.blake2b(msgspec.json.encode(name), digest_size=16).hexdigest()
