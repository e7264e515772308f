"""Moves rollouts: writes the next version of one, and makes sure that it is the one that holds."""

import getpass
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

from confluent_kafka import KafkaException, Producer
from forebay_client.errors import BrokerUnavailable, explain
from forebay_jobs.rollout_log import RolloutLog
from forebay_schemas.config import Config
from forebay_schemas.live_rollouts import crowded_out
from forebay_schemas.records import Event
from forebay_schemas.registry import codec_for
from forebay_schemas.rollouts import EVENT, Rollout, RolloutError, restate, roll_back, to_control

_FLUSH_S = 30.0
_RESTATEMENTS = 5
"""Each is needed only where yet another transition came first."""

Transition = Callable[[Mapping[str, Rollout], int], Rollout]
"""From all rollouts by name, and milliseconds since the Unix epoch, to the next version of one."""


class Mover:
    """One writer of rollouts. Several do no harm: of transitions from one version the first counts."""

    def __init__(self, config: Config) -> None:
        self._kafka = config.kafka
        self._codec = codec_for(config)
        self.log = RolloutLog(config.kafka, self._codec)
        self._producer = Producer(
            config.kafka.client(
                client_id="forebay-rollouts",
                acks="all",
                enable_idempotence=True,
                partitioner="murmur2_random",
                message_max_bytes=config.kafka.max_wire_bytes,
            )
        )

    def known(self) -> dict[str, Rollout]:
        """All rollouts, as the topic has them now.

        Raises:
            BrokerUnavailable: it cannot be read.
        """
        try:
            return self.log.catch_up()
        except KafkaException as error:
            reason = explain(error.args[0], self._kafka.topics.control, self._kafka.bootstrap)
            raise BrokerUnavailable(reason) from None

    def move(self, transition: Transition) -> Rollout:
        """Make a transition; the rollout as it stands then.

        Raises:
            RolloutError: it is not possible, or somebody else moved the rollout, or started one that is in its way, at
                the same moment.
            ConfigError: what the rollout changes cannot work.
            BrokerUnavailable: it is not known to be written.
        """
        now_ms = round(time.time() * 1000)
        rollout = transition(self.known(), now_ms)
        self._write(rollout)
        held = self.known()[rollout.name]
        if rollout.history[-1] in held.history:
            self._tell(rollout)
            self._give_way(rollout)
            return rollout
        self.mend(rollout.history[-1].who)
        raise RolloutError(
            f"{rollout.name}: {held.history[-1].who} moved it to {held.stage} at the same moment, which holds; look at"
            " its status, and try again if that is still wanted"
        )

    def _give_way(self, rollout: Rollout) -> None:
        why = crowded_out(self.log.rollouts).get(rollout.name)
        if why is None:
            return
        by = rollout.history[-1].who
        with suppress(RolloutError):  # a controller was faster
            self.move(lambda known, now_ms: roll_back(known[rollout.name], who=by, why=why, now_ms=now_ms))
        raise RolloutError(f"{rollout.name}: is rolled back, as another was started at the same moment; {why}")

    def mend(self, who: str) -> dict[str, Rollout]:
        """Say again what holds of each rollout whose last record does not count, as compaction would keep that one.

        Whoever wrote the record does so; another does where that one was killed in between. Returns all rollouts.

        Raises:
            BrokerUnavailable: it is not known to be written.
        """
        for _ in range(_RESTATEMENTS):
            known = self.known()
            if not self.log.overwritten:
                break
            for name in sorted(self.log.overwritten):
                self._write(restate(known[name], who=who, now_ms=round(time.time() * 1000)))
        return self.log.rollouts

    def close(self) -> None:
        self.log.close()

    def _write(self, rollout: Rollout) -> None:
        control = to_control(rollout)
        self._send(self._kafka.topics.control, control.key, self._codec.encode(control))

    def _tell(self, rollout: Rollout) -> None:
        step = rollout.history[-1]
        attributes = {
            "rollout": rollout.name,
            "what": step.what,
            "stage": step.stage,
            "version": str(rollout.version),
            "who": step.who,
            "why": step.why,
        }
        event = Event(event=EVENT, source="ops", happened_ms=step.at_ms, attributes=attributes)
        self._send(self._kafka.topics.events, rollout.name, self._codec.encode(event))

    def _send(self, topic: str, key: str, value: bytes) -> None:
        problems: list[str] = []
        self._producer.produce(
            topic, value, key, on_delivery=lambda error, _: problems.append(error.str()) if error else None
        )
        left = self._producer.flush(_FLUSH_S)
        if left or problems:
            reason = problems[0] if problems else f"no answer in {_FLUSH_S:g} s"
            raise BrokerUnavailable(f"{topic}: the rollout is not known to be written ({reason}); look at its status")


def known_rollouts(config: Config) -> dict[str, Rollout]:
    """All rollouts by name, those that are over too.

    Raises:
        BrokerUnavailable: they cannot be read.
    """
    with closing(Mover(config)) as mover:
        return mover.known()


def operator() -> str:
    """Who runs this process, for history."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
