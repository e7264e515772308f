"""What grouping replies in transactions costs, and how long a transaction left open holds up what lies behind it."""

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from confluent_kafka import Producer
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.records import CacheStatus, Reply
from forebay_workers.commit import TRANSACTION_TIMEOUT_MS

from . import prompts
from .harness import Bench, Measure, Say, percentiles
from .rig import Process, Rig, rig, synthetic_settings
from .traffic import QUIET, Replies, Tasks, paced

INTERVALS_MS = (1, 20, 100)
STEADY = 600
_RATE_PER_S = 200
AT_ONCE = 4000
_PARTITION = 0


@contextmanager
def bench(say: Say) -> Iterator[Bench]:
    """Relays that reply without a model, one for each way of publishing, and a partition behind an open transaction."""
    with rig(say) as it:
        sides: dict[str, Measure] = {"plain": _relay_side(it, "plain", say)}
        sides |= {f"every {interval} ms": _relay_side(it, str(interval), say) for interval in INTERVALS_MS}
        config = it.installation(**synthetic_settings())
        sides |= {
            "no open transaction": lambda: {"held_ms": _held_ms(config)},
            "one left open": lambda: {"held_ms": _behind_an_open_transaction(config)},
        }
        yield Bench(sides, facts={"transaction timeout": f"{TRANSACTION_TIMEOUT_MS / 1000:g} s"})


def _relay_side(it: Rig, interval: str, say: Say) -> Measure:
    config = it.installation(**synthetic_settings())
    say(f"starting a relay ({interval})")
    relay = it.process("relay", [sys.executable, "-m", "forebay_ops.bench.relay", str(it.write(config)), interval])
    return lambda: _relayed(config, relay, it.broker)


def _relayed(config: Config, relay: Process, broker: Process) -> dict[str, float]:
    """Latency at a steady rate, and the rate and processor time of many at once."""
    tasks = Tasks(config)
    steady = prompts.asked(prompts.questions(STEADY, seed=1))
    at_once = prompts.asked(prompts.questions(AT_ONCE, seed=2))
    with Replies(config) as replies:
        due = paced(_RATE_PER_S, (lambda request=request: tasks.produce(request) for request in steady))
        seen = replies.take([request.request_id for request in steady], relay.check)
        latencies = [(seen[request.request_id].seen_s - at) * 1000 for request, at in zip(steady, due, strict=True)]
        used, began = _cpu_s(relay, broker), time.monotonic()
        tasks.send(at_once)
        all_seen = replies.take([request.request_id for request in at_once], relay.check)
        return {
            **percentiles(latencies),
            "replies_per_s": AT_ONCE / (max(one.seen_s for one in all_seen.values()) - began),
            "cpu_ms_per_reply": (_cpu_s(relay, broker) - used) * 1000 / AT_ONCE,
        }


def _behind_an_open_transaction(config: Config) -> float:
    """How long a reply is held that is written behind an open transaction nobody will end."""
    stuck = Producer(
        config.kafka.client(transactional_id=uuid.uuid4().hex, transaction_timeout_ms=TRANSACTION_TIMEOUT_MS) | QUIET
    )
    stuck.init_transactions()
    stuck.begin_transaction()
    stuck.produce(config.kafka.topics.replies, _reply("never"), partition=_PARTITION)
    stuck.flush()
    return _held_ms(config)


def _held_ms(config: Config) -> float:
    """The time from a plain produce, as that of a cached reply, until a read_committed reader sees it."""
    with Replies(config) as replies:
        producer = Producer(config.kafka.client(enable_idempotence=True) | QUIET)
        request_id = uuid.uuid4().hex
        began = time.monotonic()
        producer.produce(config.kafka.topics.replies, _reply(request_id), partition=_PARTITION)
        producer.flush()
        (seen,) = replies.take([request_id]).values()
        return (seen.seen_s - began) * 1000


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


def _cpu_s(*processes: Process) -> float:
    """Processor time that these have used."""
    times = [psutil.Process(process.popen.pid).cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)
