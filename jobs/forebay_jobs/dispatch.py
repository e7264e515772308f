"""Handing the leader of a flight to a tier: what its task holds, and on which key it travels."""

import hashlib
from collections.abc import Sequence

import msgspec
from forebay_schemas import commands
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Lane, Request, Task
from forebay_schemas.topics import Headers, task_key
from forebay_schemas.tracing import tracing_for

from . import traces
from .arms import Arms
from .caches.prefixes import PrefixRates
from .caches.semantic import Found
from .flights import told
from .messages import Asker, Flight, Outgoing
from .pruning import Pruner
from .replies import ReplyWriter
from .router.router import Routers, vector_in


class Dispatcher:
    """Makes tasks of flights. One instance serves all desks of a process."""

    def __init__(
        self,
        config: Config,
        codec: Codec,
        replies: ReplyWriter,
        rates: PrefixRates,
        pruner: Pruner,
        arms: Arms | None = None,
    ) -> None:
        self._config = config
        self._arms = arms or Arms(config)
        self._codec = codec
        self._replies = replies
        self._rates = rates
        self._pruner = pruner
        self._routers = Routers(config)
        self._tracing = tracing_for(config, "job")
        secret = config.desk.task_secret
        self._task_key = hashlib.blake2b(secret.get_secret_value().encode()).digest() if secret else b""

    @property
    def learned(self) -> bool:
        """Whether learned weights route, outside of rollouts, what they know."""
        return self._routers.of(self._config).scorer is not None

    def prepare(self, flights: Sequence[Flight]) -> list[Flight]:
        """The flights as they are to be dispatched, with what is asked of stores for all of them at once."""
        leaders = [flight.leader for flight in flights]
        spreads, requests = self._rates.spreads(leaders), self._pruner.prune(leaders)
        return [
            msgspec.structs.replace(
                flight, spread=spread, leader=msgspec.structs.replace(flight.leader, request=request)
            )
            for flight, spread, request in zip(flights, spreads, requests, strict=True)
        ]

    def next_task(self, key: str, flight: Flight, found: Found) -> tuple[Flight, Task]:
        """The flight with its next task out, and the task.

        Raises:
            RecordError: the leader's request cannot be read.
        """
        leader, asker = flight.leader, flight.leader.asker
        arm = asker.arm if flight.shadowed is None else flight.shadowed.arm
        known = self._arms.knows(arm)  # before the overrides are asked for: one that ends meanwhile changes nothing
        chosen = flight.route
        if chosen is None or chosen.tier not in self._config.tiers:  # the tiers may have changed since a checkpoint
            router = self._routers.of(self._arms.config(arm))
            vector = vector_in(found.vector or flight.vector)
            chosen = router.route(self._codec.decode(leader.request, Request), vector)
        if flight.shadowed is not None:
            chosen = msgspec.structs.replace(chosen, reason="shadow")  # by which the ledger counts it apart
        task = Task(
            task_id=self._task_id(asker),
            flight_key=told(key, known),
            bucket=leader.bucket,
            request=leader.request,
            route=chosen,
            cache_status=CacheStatus.BYPASS if leader.bypass else CacheStatus.MISS,
            accepted_ms=asker.accepted_ms,
            reply_topic=self._replies.topic_for(asker),
            reply_key=asker.reply_key,
            traceparent=asker.traceparent,
            similarity=found.similarity,
            embedding_ms=found.embedding_ms,
            lookup_ms=found.lookup_ms + leader.lookup_ms,
            arm=arm,
            overrides=self._arms.overrides(arm),  # none for one whose rollout has ended meanwhile
        )
        flight = msgspec.structs.replace(
            flight,
            leader=leader if known else msgspec.structs.replace(leader, keep=False),  # it is not its arm's answer
            task_id=task.task_id,
            known=known,
            route=chosen,
            vector=found.vector or flight.vector,
            decision=found.decision or flight.decision,
            entry=found.entry or flight.entry,
        )
        return flight, task

    def record(self, flight: Flight, task: Task, now_ms: int) -> Outgoing:
        """The task as it is written."""
        asker = flight.leader.asker
        if self._tracing is not None:
            task = traces.dispatched(self._tracing, asker, task, flight.leader.lookup_ms, now_ms)
        headers = Headers(
            request_id=asker.request_id,
            tenant=asker.tenant,
            deadline_ms=asker.deadline_ms,
            bucket=task.bucket,
            task=task.name,
            traceparent=task.traceparent,
        )
        return Outgoing(
            # A batch request that follows an interactive leader takes its lane too: others may join it there.
            topic=self._config.kafka.topics.tier(task.route.tier, flight.lane),
            key=task_key(_prefix_to_meet_by(flight), task.task_id, flight.spread).encode(),
            value=self._codec.encode(task),
            headers=headers.to_kafka(),
        )

    def _task_id(self, asker: Asker) -> str:
        """The same whenever the same record is read, and another one for each other record.

        Workers pass over a task that was answered, so nothing may count that can differ between two readings of a
        record: no epoch, and no arm. A request that is published again under its id has a task of its own.
        """
        name = msgspec.json.encode([asker.name, asker.origin])
        return hashlib.blake2b(name, digest_size=16, key=self._task_key).hexdigest()

    def withdraw(self, task_id: str, now_ms: int) -> Outgoing:
        """The command to the workers to cancel a task that nobody waits for."""
        control = commands.cancel_task(task_id, issued_by="job", issued_ms=now_ms)
        topic = self._config.kafka.topics.control
        return Outgoing(topic=topic, key=control.key.encode(), value=self._codec.encode(control))


def _prefix_to_meet_by(flight: Flight) -> str | None:
    """None on the batch lane, which all workers share: a job's rows mostly have one static prefix, come all at once,
    and cost each worker one reading of it."""
    return None if flight.lane is Lane.BATCH else flight.leader.prefix
