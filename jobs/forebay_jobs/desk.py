"""The desk: joins equal requests in flight, looks up by meaning in batches, dispatches leaders, settles results.

Plain Python over a `DeskState`; `operators.desk` gives it Flink's keyed state and timers. One desk sees all
equal requests, because a bucket of digests is the key. All methods return what is to be written.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

import msgspec
import numpy as np
from forebay_schemas.batches import is_batch
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheStatus, Lane, Reply, ReplyError, Request, Result

from .arms import Arms
from .caches.answers import Answer, AnswerStore
from .caches.hits import REWORDING
from .caches.semantic import Found, SemanticCache
from .desk_state import DeskState
from .dispatch import Dispatcher
from .feedback import COMPLAINTS, Complaints
from .flights import flight_to_lead, flights_to_join, join, lead, leave, release, waiters, waiting
from .invalidations import INVALIDATIONS, Invalidations
from .judging.model import verdict_of
from .look_ahead import LookAhead
from .messages import Arrival, Asker, Cancel, Flight, Invalidate, Outgoing, Thumb, counts_for
from .orphans import ORPHANS, Orphans
from .replies import ReplyWriter
from .results import Results, begun_otherwise
from .reuse.lifetime import kept_s
from .shadows import LOOK_MS, Shadows, Step
from .throttle import Pressure
from .verdicts import verdict_arrival

LONGEST_NAP_MS = 60_000
"""How far ahead a look at a flight is noted at most. A note outlives its flight, so the state would otherwise hold
half an hour of them, and those of far deadlines for as long as somebody likes."""

_DEFECT = "the job could not work on this request; it is in the job's log"

logger = logging.getLogger(__name__)


class Desk:
    """See the module. One instance serves all buckets of a slot, one bucket at a time."""

    def __init__(
        self,
        config: Config,
        codec: Codec,
        answers: AnswerStore,
        semantic: SemanticCache,
        dispatcher: Dispatcher,
        shadows: Shadows,
        metrics: JobMetrics,
        arms: Arms | None = None,
        pool: Executor | None = None,
        pressure: Pressure | None = None,
    ) -> None:
        """
        Args:
            pool: where questions are looked up by meaning, see ``LookAhead``.
        """
        self._config = config
        self._arms = arms or Arms(config)
        self._codec = codec
        self._answers = answers
        self._semantic = semantic
        embedding, room = config.embedding, config.desk.waiting
        self._ahead = LookAhead(semantic, embedding.batch, room, pressure or Pressure(), pool, embedding.calls)
        self._dispatcher = dispatcher
        self._shadows = shadows
        self._metrics = metrics
        self._replies = ReplyWriter(config, codec, metrics)
        self._results = Results(codec)
        self._orphans = Orphans(config.desk.orphan_result_s)
        self._invalidations = Invalidations(config, codec, answers, metrics)
        self._complaints = Complaints(config, codec, semantic, metrics)

    def arrive(self, state: DeskState, arrival: Arrival, now_ms: int) -> list[Outgoing]:
        """A request that the exact cache did not answer: it joins an equal one in flight, or leads a flight."""
        try:
            return self._arrive(state, arrival, now_ms)
        except Exception:
            logger.exception("a request is given up on a defect")
            return self._give_up([arrival.asker], now_ms)

    def _arrive(self, state: DeskState, arrival: Arrival, now_ms: int) -> list[Outgoing]:
        if waiting(state, arrival.asker.name) is not None:
            self._metrics.duplicates.inc()  # published again while Redis was away to notice
            return []
        for key in flights_to_join(arrival):
            flight = state.flight(key)
            if flight is not None and flight.answer is None:
                self._join(state, key, flight, arrival.asker, now_ms)
                return []
            answer = self._landed_answer(flight, arrival, now_ms) if flight else None
            if answer is not None:
                return self._replies.again(
                    arrival.asker, answer, CacheStatus.JOINED, now_ms, lookup_ms=arrival.lookup_ms
                )
        key = flight_to_lead(arrival)
        before = state.flight(key)
        if before is None:
            self._metrics.flights_opened.inc()
        elif before.leader.asker.name == arrival.asker.name:
            self._metrics.duplicates.inc()  # likewise, and it was answered a moment ago
            return []
        lead(state, key, Flight(leader=arrival, lane=arrival.asker.lane))
        state.add_pending(key)
        self._ahead.gather(state.bucket, key, arrival, now_ms)  # before its own tick, in the next batch of any bucket
        return []

    def tick(self, state: DeskState, now_ms: int) -> list[Outgoing]:
        """Serve the gathered leaders in one batch, and whatever has come due."""
        sent: list[Outgoing] = []
        for key in dict.fromkeys(state.take_due(now_ms)):
            flight = state.flight(key)
            if key == ORPHANS:
                self._orphans.expire(state, now_ms)
            elif key == INVALIDATIONS:
                sent += self._invalidations.retry(state, now_ms)
            elif key == COMPLAINTS:
                sent += self._complaints.retry(state, now_ms)
            elif flight is not None:
                sent += self._guarded(self._due, state, key, flight, now_ms)
        leaders: list[tuple[str, Flight, Found]] = []
        for key, what in self._found(state, now_ms).items():
            state.drop_pending(key)
            if what.quarantined is not None:
                sent.append(self._complaints.quarantined(what.quarantined, REWORDING, now_ms))
            flight = state.flight(key)
            if flight is None:
                continue
            leader = flight.leader
            sent += self._guarded(self._in_time, state, key, flight, now_ms)
            flight = state.flight(key)
            if flight is not None and flight.leader.asker.name == leader.asker.name:
                leaders.append((key, flight, what))
            elif flight is not None:
                state.add_pending(key)
        # Batch requests of the same tick see the tier topics after the interactive ones.
        leaders.sort(key=lambda item: item[1].leader.asker.lane is Lane.BATCH)
        missed: list[tuple[str, Flight, Found]] = []
        for key, flight, what in leaders:
            if not what.keep:
                bypass = flight.leader.bypass or what.time_sensitive
                leader = msgspec.structs.replace(flight.leader, bypass=bypass, keep=False)
                flight = msgspec.structs.replace(flight, leader=leader)
            if what.answer is None:
                missed.append((key, flight, what))
            else:
                sent += self._guarded(self._give, state, key, flight, what.answer, what, max(now_ms, what.found_ms))
        prepared = self._prepared([flight for _, flight, _ in missed])
        for (key, _, what), flight in zip(missed, prepared, strict=True):
            sent += self._guarded(self._dispatch, state, key, flight, what, now_ms)
        return sent

    def _found(self, state: DeskState, now_ms: int) -> dict[str, Found]:
        """What is known by now about those that wait, by their flights' keys; of others this is called again soon."""
        for key in state.take_new():
            if self._ahead.has(key):
                continue
            flight = state.flight(key)
            if flight is None:
                state.drop_pending(key)
            else:
                self._ahead.gather(state.bucket, key, flight.leader, now_ms)
        found = self._ahead.take(state.bucket, now_ms)
        if self._ahead.waits(state.bucket):
            state.look_soon()
        return found

    def _prepared(self, flights: Sequence[Flight]) -> list[Flight]:
        """The flights as they are to be dispatched; on a defect as they are."""
        try:
            return self._dispatcher.prepare(flights)
        except Exception:
            logger.exception("%d requests are dispatched with all their passages, on a defect", len(flights))
            return [*flights]

    def settle(self, state: DeskState, result: Result, now_ms: int) -> list[Outgoing]:
        """A worker's result: keep the answer, release those who wait; or let a follower lead after a failure."""
        found = self._results.flight_of(state, result)
        if found is None:
            self._metrics.results.labels("unknown").inc()
            self._orphans.keep(state, result, now_ms)
            return []
        key, flight = found
        if flight.answer is not None:
            self._metrics.results.labels("repeated").inc()
            return []
        return self._guarded(self._settle, state, key, flight, result, now_ms)

    def _settle(self, state: DeskState, key: str, flight: Flight, result: Result, now_ms: int) -> list[Outgoing]:
        reply = self._results.reply_in(result, flight.leader.asker)
        if reply is None:
            self._metrics.results.labels("invalid").inc()
            return self._promote(state, key, flight, now_ms)  # the leader got what cannot be read here
        if begun_otherwise(key, flight, result):
            self._metrics.results.labels("earlier").inc()
            self._let_ask_again(flight, reply.error)
            return self._promote(state, key, flight, now_ms)
        self._metrics.results.labels("matched").inc()
        if flight.shadowed is not None:
            return self._go_on(state, key, flight, self._shadows.landed(flight, reply, result.reply, now_ms), now_ms)
        if reply.error is not None:
            return self._failed(state, key, flight, reply.error, now_ms)
        return self._landed(state, key, flight, reply, result.reply, now_ms)

    def cancel(self, state: DeskState, cancel: Cancel, now_ms: int) -> list[Outgoing]:
        """A request is taken back, or the rows of a batch. One that does not wait here changes nothing."""
        if is_batch(cancel.request_id):
            names = state.names(f"{cancel.name}-")
            return [record for name in names for record in self._cancel_named(state, cancel, name, now_ms)]
        return self._cancel_named(state, cancel, cancel.name, now_ms)

    def _cancel_named(self, state: DeskState, cancel: Cancel, name: str, now_ms: int) -> list[Outgoing]:
        found = waiting(state, name)
        if found is None:
            return []
        place, flight, asker = found
        if name != cancel.name and place.number is None and flight.task_id is not None:
            return []  # the workers hear of batches themselves: a command for each of a million tasks would be too many
        if not counts_for(cancel.issued_ms, asker.created_ms, self._config.redis.seen_ttl_s):
            return []
        return self._guarded(self._cancel, state, place.flight, flight, asker, place.number, now_ms)

    def invalidate(self, state: DeskState, command: Invalidate, now_ms: int) -> list[Outgoing]:
        """Answers hold no longer. Generations in flight need no word: they end under the epochs they began with."""
        return self._invalidations.take(state, command, now_ms)

    def thumb(self, state: DeskState, thumb: Thumb, now_ms: int) -> list[Outgoing]:
        """Somebody said what the answer to a request was worth."""
        return self._complaints.take(state, thumb, now_ms)

    def _cancel(
        self, state: DeskState, key: str, flight: Flight, asker: Asker, number: int | None, now_ms: int
    ) -> list[Outgoing]:
        if number is None and flight.task_id is not None:
            # The leader's reply is up to a worker. While others wait for the same generation, it goes on.
            alone = next(waiters(state, key, flight), None) is None
            return [self._dispatcher.withdraw(flight.task_id, now_ms)] if alone else []
        message = "taken back while it waited at the desk"
        sent = [self._replies.refuse(asker, ErrorCode.CANCELLED, message, now_ms)]
        if number is None:
            return sent + self._succeed(state, key, flight, now_ms)
        leave(state, key, number, asker)
        return sent

    def _guarded(
        self, act: Callable[..., list[Outgoing]], state: DeskState, key: str, flight: Flight, *rest: Any
    ) -> list[Outgoing]:
        """Do something with a flight. A defect ends this flight with error replies, never the job: a restored job
        would read the same request again and die again."""
        try:
            return act(state, key, flight, *rest)
        except Exception:
            logger.exception("a flight is given up on a defect")
            flight = state.flight(key) or flight  # a follower may have taken the lead
            left = [asker for _, asker in waiters(state, key, flight)]
            if flight.task_id is None:  # else the leader's reply is up to a worker
                left.insert(0, flight.leader.asker)
            self._forget(state, key, flight)
            return self._give_up(left, rest[-1])

    def _give_up(self, askers: list[Asker], now_ms: int) -> list[Outgoing]:
        self._answers.forget(askers)  # whoever asks again has another chance
        own = self._config.kafka.topics.audit  # where nobody waits, and a refusal would count as a tenant's
        return [
            self._replies.refuse(asker, ErrorCode.INTERNAL, _DEFECT, now_ms)
            for asker in askers
            if asker.reply_topic != own
        ]

    def _join(self, state: DeskState, key: str, flight: Flight, asker: Asker, now_ms: int) -> None:
        flight = join(state, key, flight, asker)
        if asker.deadline_ms is not None:
            flight = self._look_again(state, key, flight, asker.deadline_ms, now_ms)
        state.put_flight(key, flight)

    def _landed_answer(self, flight: Flight, arrival: Arrival, now_ms: int) -> Answer | None:
        """A landed flight's answer, where the exact cache would give it had it been filled a moment earlier."""
        if not flight.answer or arrival.epochs is None:
            return None
        answer = self._answer_of(self._codec.decode(flight.answer, Reply), flight)
        ttl_s = self._arms.config(arrival.asker.arm).category(arrival.asker.category).exact_ttl_s
        return answer if answer.holds(arrival.epochs) and answer.fresh(now_ms, ttl_s) else None

    def _in_time(self, state: DeskState, key: str, flight: Flight, now_ms: int) -> list[Outgoing]:
        """Refuse a leader whose time has passed before its dispatch; a follower takes its place."""
        asker = flight.leader.asker
        if not asker.expired(now_ms):
            return []
        message = "deadline_ms: passed while the request waited at the desk"
        late = self._replies.refuse(asker, ErrorCode.DEADLINE_EXCEEDED, message, now_ms)
        return [late, *self._succeed(state, key, flight, now_ms)]

    def _give(
        self, state: DeskState, key: str, flight: Flight, answer: Answer, found: Found, now_ms: int
    ) -> list[Outgoing]:
        """A similar question's answer, to the leader and to all who joined meanwhile."""
        joined = [asker for _, asker in waiters(state, key, flight)]
        self._semantic.joined(flight.leader, found, joined, now_ms)
        sent = [
            record
            for asker in (flight.leader.asker, *joined)
            for record in self._replies.again(
                asker,
                answer,
                CacheStatus.SEMANTIC,
                now_ms,
                similarity=found.similarity,
                embedding_ms=found.embedding_ms,
                lookup_ms=found.lookup_ms + flight.leader.lookup_ms,
                semantic_ms=found.lookup_ms,
            )
        ]
        self._forget(state, key, flight)
        return sent

    def _dispatch(self, state: DeskState, key: str, flight: Flight, found: Found, now_ms: int) -> list[Outgoing]:
        flight, task = self._dispatcher.next_task(key, flight, found)
        desk = self._config.desk
        ttl_s = desk.batch_flight_ttl_s if flight.lane is Lane.BATCH else desk.flight_ttl_s
        expires_ms = now_ms + round(ttl_s * 1000)
        flight = self._look_again(
            state, key, msgspec.structs.replace(flight, expires_ms=expires_ms), expires_ms, now_ms
        )
        state.put_flight(key, flight)
        result = self._orphans.take(state, task.task_id)
        if result is not None:
            return self._settle(state, key, flight, result, now_ms)
        self._metrics.tasks.labels(task.route.tier, flight.lane, task.route.reason).inc()
        return [self._dispatcher.record(flight, task, now_ms)]

    def _ask_for_verdicts(self, state: DeskState, bucket: str, now_ms: int) -> None:
        """Where the judge could not tell whether an answer agrees with a known one, let the large tier say."""
        for lesson in self._semantic.left_open(bucket):
            arrival = verdict_arrival(lesson, bucket, self._config, self._codec, now_ms)
            if arrival is not None:
                key = flight_to_lead(arrival)
                self._metrics.flights_opened.inc()
                lead(state, key, Flight(leader=arrival, lane=arrival.asker.lane, lesson=lesson))
                state.add_pending(key)

    def _landed(
        self, state: DeskState, key: str, flight: Flight, reply: Reply, encoded: bytes, now_ms: int
    ) -> list[Outgoing]:
        if flight.lesson is not None:
            self._semantic.told(flight.lesson, verdict_of(reply))
            self._forget(state, key, flight)
            return []
        answer = self._answer_of(reply, flight)
        fate = self._keep(flight, reply, answer, now_ms)
        self._metrics.filled.labels(fate).inc()
        sent = [
            record
            for _, asker in waiters(state, key, flight)
            for record in self._replies.again(asker, answer, CacheStatus.JOINED, now_ms)
        ]
        release(state, key, flight)
        sent += self._shadows.answered(state, flight, reply, encoded, now_ms)
        # Whoever missed the cache just before it was filled still finds the flight.
        expires_ms = now_ms + round(self._config.desk.flight_linger_s * 1000)
        flight = msgspec.structs.replace(
            flight,
            leader=msgspec.structs.replace(flight.leader, request=b"", question=None),
            vector=None,
            decision=None,
            waiters=0,
            answer=encoded if fate in ("kept", "store_away") else b"",
            expires_ms=expires_ms,
        )
        state.put_flight(key, self._look_again(state, key, flight, expires_ms, now_ms))
        return sent

    def _go_on(self, state: DeskState, key: str, flight: Flight, step: Step, now_ms: int) -> list[Outgoing]:
        """Let a flight that waits for a second answer take its next step."""
        if step.flight is None:
            self._forget(state, key, flight)
        elif step.flight.task_id is None:
            release(state, key, flight)
            lead(state, key, step.flight)
            state.add_pending(key)
        else:
            state.put_flight(key, self._look_again(state, key, step.flight, now_ms + LOOK_MS, now_ms))
        return step.sent

    def _keep(self, flight: Flight, reply: Reply, answer: Answer, now_ms: int) -> str:
        """Fill both caches; what became of the answer, for the metrics."""
        leader, arm = flight.leader, flight.leader.asker.arm
        if not leader.keep or self._arms.stood_in(arm, reply.tier or "", reply.model_id or ""):
            return "not_reusable"
        if not reply.complete:
            return "incomplete"
        if reply.review:
            return "doubtful"
        ttl_s = kept_s(self._arms.config(arm).category(leader.asker.category), leader.ttl_s)
        new = self._answers.keep(leader.digest, answer, ttl_s)
        if new is None:
            return "store_away"
        if leader.question is not None and flight.vector is not None:
            self._semantic.learn(leader, np.frombuffer(flight.vector, dtype=np.float32), now_ms)
            if new and flight.decision is not None and flight.entry is not None:
                self._semantic.compare(leader, flight.decision, flight.entry, answer.text)
        return "kept"

    def _failed(self, state: DeskState, key: str, flight: Flight, error: ReplyError, now_ms: int) -> list[Outgoing]:
        self._let_ask_again(flight, error)
        # What befell the leader alone. Not as an ErrorCode: a newer worker may use one that this job does not know.
        if error.retryable or error.code in (ErrorCode.DEADLINE_EXCEEDED, ErrorCode.CANCELLED):
            return self._promote(state, key, flight, now_ms)
        sent = [self._replies.fail(asker, error, now_ms) for _, asker in waiters(state, key, flight)]
        self._forget(state, key, flight)
        return sent

    def _let_ask_again(self, flight: Flight, error: ReplyError | None) -> None:
        """After a failure that invites to it, the leader's id is good for another try."""
        if error is not None and error.retryable:
            self._answers.forget([flight.leader.asker])

    def _promote(self, state: DeskState, key: str, flight: Flight, now_ms: int) -> list[Outgoing]:
        """The leader failed: dispatch a follower in its place."""
        sent = self._succeed(state, key, flight, now_ms)
        heir = state.flight(key)
        return [*sent, *self._dispatch(state, key, heir, Found(), now_ms)] if heir else sent

    def _succeed(self, state: DeskState, key: str, flight: Flight, now_ms: int) -> list[Outgoing]:
        """Let the first follower whose time has not passed lead; without one the flight is over."""
        sent: list[Outgoing] = []
        for number, asker in waiters(state, key, flight):
            if asker.expired(now_ms):
                leave(state, key, number, asker)
                sent.append(self._late(asker, now_ms))
                continue
            request = self._readdress(flight.leader.request, asker)
            leader = msgspec.structs.replace(flight.leader, asker=asker, request=request)
            state.drop_place(flight.leader.asker.name)
            state.drop_waiter(key, number)
            lead(state, key, msgspec.structs.replace(flight, leader=leader, task_id=None))
            if self._ahead.drop(key):
                state.add_pending(key)
            self._metrics.promotions.inc()
            return sent
        self._forget(state, key, flight)
        return sent

    def _due(self, state: DeskState, key: str, flight: Flight, now_ms: int) -> list[Outgoing]:
        if flight.shadowed is not None and flight.shadowed.other is not None and not flight.shadowed.asked:
            return self._go_on(state, key, flight, self._shadows.compare(flight, now_ms), now_ms)
        over = flight.task_id is not None and flight.expires_ms <= now_ms
        if over and flight.answer is not None:
            self._forget(state, key, flight)
            self._ask_for_verdicts(state, flight.leader.bucket, now_ms)
            return []
        if over:
            return self._promote(state, key, flight, now_ms)
        sent: list[Outgoing] = []
        next_ms = flight.expires_ms or now_ms + LONGEST_NAP_MS
        for number, asker in waiters(state, key, flight):
            if asker.expired(now_ms):
                leave(state, key, number, asker)
                sent.append(self._late(asker, now_ms))
            elif asker.deadline_ms is not None:
                next_ms = min(next_ms, asker.deadline_ms)
        state.put_flight(key, self._look_again(state, key, flight, next_ms, now_ms))
        return sent

    def _look_again(self, state: DeskState, key: str, flight: Flight, at_ms: int, now_ms: int) -> Flight:
        """The flight, with a look at it noted for a time or before, where none is noted yet."""
        at_ms = min(at_ms, now_ms + LONGEST_NAP_MS)
        if now_ms < flight.looked_at_ms <= at_ms:
            return flight
        state.wake(key, at_ms)
        return msgspec.structs.replace(flight, looked_at_ms=at_ms)

    def _late(self, asker: Asker, now_ms: int) -> Outgoing:
        message = "deadline_ms: passed while an equal request was in flight"
        return self._replies.refuse(asker, ErrorCode.DEADLINE_EXCEEDED, message, now_ms)

    def _readdress(self, request: bytes, asker: Asker) -> bytes:
        """The leader's request as its follower would have sent it: all that counts is equal already."""
        return self._codec.encode(
            msgspec.structs.replace(
                self._codec.decode(request, Request),
                request_id=asker.request_id,
                tenant=asker.tenant,
                user=asker.user,
                endpoint=asker.endpoint,
                category=asker.category,
                lane=asker.lane,
                created_ms=asker.created_ms,
                deadline_ms=asker.deadline_ms,
                stream=asker.stream,
                priority=asker.priority,
                metadata={},
            )
        )

    def _answer_of(self, reply: Reply, flight: Flight) -> Answer:
        leader = flight.leader
        return Answer.of(reply, leader.epochs or {}, leader.ttl_s, leader.question, leader.rules)

    def _forget(self, state: DeskState, key: str, flight: Flight) -> None:
        if self._ahead.drop(key):
            state.drop_pending(key)
        release(state, key, flight)
        state.drop_flight(key)
        self._metrics.flights_closed.inc()
