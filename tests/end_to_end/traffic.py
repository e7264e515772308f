"""A support desk's traffic with known repeats and rewordings, and a record of what came back."""

import itertools
import random
import threading
from collections import defaultdict
from dataclasses import dataclass, field

import msgspec
from forebay_client import Client
from forebay_schemas.records import CacheOptions, CachePolicy, Reply
from forebay_schemas.rollouts import Rollout, Stage

TENANTS = ("north", "south")

QUESTIONS = {
    # Each with a rewording whose cosine under all-MiniLM-L6-v2 is above 0.92, as `test_traffic` measures.
    "How do I reset the password of the app?": "How can I reset the password of the app?",
    "How long does delivery to France take?": "How long does a delivery to France take?",
    "Which payment methods do you accept?": "What payment methods do you accept?",
    "How do I return a damaged pump?": "How can I return a damaged pump?",
    "Do you ship spare parts to Switzerland?": "Can you ship spare parts to Switzerland?",
    "What is the warranty on garden pumps?": "What warranty is there on garden pumps?",
    "How do I clean the filter of the pump?": "How should I clean the filter of the pump?",
    "Can I pick up a parcel at a locker?": "Can I pick my parcel up at a locker?",
}


@dataclass(frozen=True)
class Sent:
    """One request of the traffic."""

    request_id: str
    tenant: str
    question: str
    cache: CacheOptions


@dataclass
class Inbox:
    """Every reply that a client handed over, by request."""

    replies: dict[str, list[Reply]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, reply: Reply) -> None:
        with self._lock:
            self.replies[reply.request_id].append(reply)

    def __len__(self) -> int:
        with self._lock:
            return len(self.replies)


def plan(count: int, name: str, seed: int) -> list[Sent]:
    """``count`` requests in the order of sending; ``name`` sets their words apart from other plans'.

    One in ten bypasses the caches, so that something is generated from the first request to the last.
    """
    chance = random.Random(seed)
    planned = []
    for number in range(count):
        tenant = chance.choice(TENANTS)
        original = chance.choice(list(QUESTIONS))
        words = QUESTIONS[original] if chance.random() < 0.2 else original
        words = f"{words} It is about the {name} model {chance.choice('ABCDEF')}."
        cache = CacheOptions(policy=CachePolicy.BYPASS if chance.random() < 0.1 else CachePolicy.USE)
        planned.append(Sent(f"{name}-{tenant}-{number}", tenant, words, cache))
    return planned


def publish(client: Client, sent: Sent, inbox: Inbox) -> None:
    """Send one request of a plan."""
    client.publish(
        sent.question,
        on_reply=inbox.take,
        request_id=sent.request_id,
        tenant=sent.tenant,
        category="support",
        cache=sent.cache,
    )


def users_of(rollout: Rollout, tenant: str) -> list[str]:
    """Users of a tenant, four who come in with each stage: so that neither arm waits for replies."""
    stages = [
        msgspec.structs.replace(rollout, stage=each) for each in (Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL)
    ]
    found: dict[Stage, list[str]] = {each.stage: [] for each in stages}
    numbers = itertools.count()
    while any(len(names) < 4 for names in found.values()):
        name = f"user-{next(numbers)}"
        first = next(each.stage for each in stages if each.takes(tenant, name))
        found[first].append(name)
    return [name for names in found.values() for name in names[:4]]
