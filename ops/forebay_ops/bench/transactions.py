"""What grouping replies in transactions costs, and how long a transaction left open holds up what lies behind it."""

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from confluent_kafka import Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Reply, Request
from forebay_workers.transactions import TRANSACTION_TIMEOUT_MS

from . import prompts
from .harness import Bench, Measure, Say, percentiles
from .process import Process
from .rig import rig, synthetic_settings
from .traffic import QUIET, Replies, Seen, Tasks, paced

INTERVALS_MS = (1, 20, 100)
STEADY = 600
_RATE_PER_S = 200
AT_ONCE = 4000
_PARTITION = 0


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """Relays that reply without a model, one for each way of publishing, and a partition behind an open transaction."""
    with rig(say) as it, ExitStack() as readers:
        sides: dict[str, Measure] = {}
        intervals = {"plain": "plain"} | {f"every {ms} ms": str(ms) for ms in INTERVALS_MS}
        for side, interval in intervals.items():
            config = it.installation(**synthetic_settings())
            say(f"starting a relay: {side}")
            command = [sys.executable, "-m", "forebay_ops.bench.relay", str(it.write(config)), interval]
            relay = Relay(config, readers.enter_context(Replies(config)), it.process("relay", command), it.broker)
            sides[side] = relay.measure
        config = it.installation(**synthetic_settings())
        held = Held(config, readers.enter_context(Replies(config)))
        sides |= {
            "no open transaction": lambda: {"held_ms": held.measure_ms()},
            "one left open": lambda: {"held_ms": held.behind_an_open_transaction_ms()},
        }
        yield Bench(sides, facts={"transaction timeout": f"{TRANSACTION_TIMEOUT_MS / 1000:g} s"})


class Relay:
    """The load on one relay."""

    def __init__(self, config: Config, replies: Replies, relay: Process, broker: Process) -> None:
        self._tasks = Tasks(config)
        self._replies = replies
        self._relay = relay
        self._broker = broker

    def measure(self) -> dict[str, float]:
        """Latency at a steady rate; the rate, and the processor time, of many at once."""
        steady = prompts.asked(prompts.questions(STEADY, seed=1))
        due = paced(
            _RATE_PER_S, (lambda one=request: self._tasks.write([self._tasks.record(one)]) for request in steady)
        )
        seen = self._take(steady)
        latencies = [(one.seen_s - at) * 1000 for one, at in zip(seen, due, strict=True)]
        at_once = prompts.asked(prompts.questions(AT_ONCE, seed=2))
        records = [self._tasks.record(request) for request in at_once]  # so that making them does not hold them up
        used, began = self._cpu_s(), time.monotonic()
        self._tasks.write(records)
        last = max(one.seen_s for one in self._take(at_once))
        return {
            **percentiles(latencies),
            "replies_per_s": AT_ONCE / (last - began),
            "cpu_ms_per_reply": (self._cpu_s() - used) * 1000 / AT_ONCE,
        }

    def _cpu_s(self) -> float:
        return self._relay.cpu_s() + self._broker.cpu_s()

    def _take(self, requests: list[Request]) -> list[Seen]:
        return list(self._replies.take([request.request_id for request in requests], self._relay.check).values())


class Held:
    """How long a reply that is produced plainly, as that of a cached answer is, is held from its reader."""

    def __init__(self, config: Config, replies: Replies) -> None:
        self._config = config
        self._replies = replies
        self._producer = Producer(config.kafka.client(enable_idempotence=True) | QUIET)

    def measure_ms(self) -> float:
        """From its produce until a read_committed reader sees it."""
        request_id = uuid.uuid4().hex
        began = time.monotonic()
        self._producer.produce(self._config.kafka.topics.replies, _reply(request_id), partition=_PARTITION)
        self._producer.flush()
        (seen,) = self._replies.take([request_id]).values()
        return (seen.seen_s - began) * 1000

    def behind_an_open_transaction_ms(self) -> float:
        """The same behind a transaction that nobody will end."""
        timeout = {"transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
        stuck = Producer(self._config.kafka.client(transactional_id=uuid.uuid4().hex, **timeout) | QUIET)
        stuck.init_transactions()
        stuck.begin_transaction()
        stuck.produce(self._config.kafka.topics.replies, _reply("never"), partition=_PARTITION)
        stuck.flush()
        return self.measure_ms()


def _reply(request_id: str) -> bytes:
    reply = Reply(
        request_id=request_id,
        tenant="bench",
        completed_ms=int(time.time() * 1000),
        cache_status=CacheStatus.EXACT,
        text="Print the label from your account.",
        finish_reason="stop",
    )
    return Codec().encode(reply)
