"""Forgets a tenant, or one of its users, wherever something is kept, and counts again what is left."""

import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from forebay_client.errors import BrokerUnavailable
from forebay_client.inbox import Inbox
from forebay_client.outbox import Outbox
from forebay_gateway.erasing import GatewayEraser
from forebay_jobs.caches.erasing import Eraser
from forebay_jobs.caches.redis_store import RedisStore
from forebay_schemas import commands
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import Event
from forebay_schemas.registry import codec_for
from prometheus_client import CollectorRegistry

from .ledger import forgetting as ledger
from .ledger.forgetting import NotForgotten, Whom

_CONNECT_S = 10.0
_POLL_S = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a place kept of somebody, and still keeps."""

    place: str
    found: int
    left: int


def kept(config: Config, whom: Whom, say: Say) -> list[Kept]:
    """What Redis, the gateway and the ledger keep; what the index keeps the job alone can tell.

    Raises:
        ForebayError: a Redis does not answer, or the ledger cannot be read.
    """
    counted = {place: eraser.count(say) for place, eraser in _erasers(config, whom).items()}
    counted["ledger"] = Counter(ledger.count(config.ledger.folder, whom))
    return [
        Kept(f"{place}, {kind}", count, count)
        for place, counts in counted.items()
        for kind, count in sorted(counts.items())
    ]


def undivided(config: Config, whom: Whom, say: Say) -> int:
    """How many files and batches the gateway keeps of a user's tenant: nobody can tell whose rows they hold.

    Raises:
        ForebayError: Redis does not answer.
    """
    return GatewayEraser(config, whom.tenant, whom.user).undivided(say)


def forget(config: Config, whom: Whom, *, issued_by: str, timeout_s: float, say: Say) -> list[Kept]:
    """Remove it everywhere, and look again.

    Args:
        issued_by: for the trail.
        timeout_s: for which the job, and then the ledger, are waited for.

    Raises:
        NotForgotten: the job has not acknowledged it in time, or who writes to the ledger has not done it.
        ForebayError: a store does not answer.
    """
    erasers, folder = _erasers(config, whom), config.ledger.folder
    rows = ledger.count(folder, whom)
    erased = {place: eraser.erase(say) for place, eraser in erasers.items()}
    # After Redis: whoever holds in memory what was learned puts it back there until the job has forgotten it.
    in_job = _by_job(config, whom, issued_by, timeout_s, say)
    ledger.forget(folder, whom, timeout_s, say)
    keys_left = {place: eraser.count(say) for place, eraser in erasers.items()}
    rows_left = ledger.count(folder, whom)
    return [
        *(
            Kept(f"{place}, {kind}", erased[place][kind], keys_left[place][kind])
            for place in erasers
            for kind in sorted(erased[place] | keys_left[place])
        ),
        in_job,
        *(Kept(f"ledger, {kind}", rows[kind], rows_left[kind]) for kind in rows),
    ]


def _erasers(config: Config, whom: Whom) -> dict[str, Eraser | GatewayEraser]:
    return {
        "gateway": GatewayEraser(config, whom.tenant, whom.user),
        "redis": Eraser(RedisStore(config, JobMetrics(CollectorRegistry())), whom.tenant, whom.user),
    }


def _by_job(config: Config, whom: Whom, issued_by: str, timeout_s: float, say: Say) -> Kept:
    """Let the job forget, and wait until each bucket of its desk says that it has."""
    command_id, codec, topics = uuid.uuid4().hex, codec_for(config), config.kafka.topics
    issued_ms = round(time.time() * 1000)
    control = commands.forget(whom.tenant, whom.user, command_id, issued_by=issued_by, issued_ms=issued_ms)
    problems: list[str | None] = []
    told: dict[str, Event] = {}
    # The acknowledgement's key is the id, so it comes on the partition that this one is read from.
    with (
        closing(Outbox(config)) as outbox,
        closing(Inbox(config, topics.events, command_id, _CONNECT_S)) as inbox,
    ):
        outbox.send(topics.control, control.key.encode(), codec.encode(control), {}, problems.append)
        until_s = time.monotonic() + timeout_s
        while not _all_told(told):
            say(f"waiting for the job, {len(told)} of {config.desk.buckets} buckets have forgotten")
            outbox.serve()
            if problem := next(filter(None, problems), None):
                raise BrokerUnavailable(f"the command was not published: {problem}")
            if time.monotonic() > until_s:
                raise NotForgotten(
                    f"the job has not acknowledged it within {timeout_s:g} s. It is queued: see that the job runs, and"
                    " give the command again then, to be told what is left"
                )
            record = inbox.poll(_POLL_S)
            event = _event(codec, record.value) if record else None
            if event and event.event == commands.FORGOTTEN and event.attributes.get("id") == command_id:
                told[event.attributes["bucket"]] = event
        # The command names whom to forget, and compaction would keep it for ever.
        outbox.send(topics.control, control.key.encode(), None, {}, problems.append)
        outbox.flush(timeout_s)
    if problem := next((event.attributes["problem"] for event in told.values() if "problem" in event.attributes), None):
        raise ForebayError(f"the job could not do all of it: {problem}; give the command again when that is mended")
    found, left = (sum(int(event.attributes[name]) for event in told.values()) for name in ("found", "left"))
    return Kept("job, index and what was learned", found, left)


def _all_told(told: dict[str, Event]) -> bool:
    return any(len(told) == int(event.attributes["buckets"]) for event in told.values())


def _event(codec: Codec, value: bytes) -> Event | None:
    try:
        return codec.decode(value, Event)
    except ForebayError:  # of another version, or somebody's mistake
        return None
