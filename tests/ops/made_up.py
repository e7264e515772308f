"""Replies as job and workers write them, made up, the same ones each time."""

import random
from collections.abc import Iterable
from pathlib import Path

from forebay_ops.ledger.feedback import FeedbackTable
from forebay_ops.ledger.folder import FEEDBACK, LedgerFolder
from forebay_ops.ledger.replies import ReplyTable
from forebay_ops.ledger.tables import Entry
from forebay_ops.ledger.writer import LedgerWriter
from forebay_schemas import prices
from forebay_schemas.config import Config, load_config
from forebay_schemas.metrics import LedgerMetrics
from forebay_schemas.records import CacheStatus, Feedback, Hop, Lane, Latency, Reply, ReplyError, Usage
from prometheus_client import CollectorRegistry

from tests.builders import NOW_MS, make_route

DAY_MS = 86_400_000
REUSED = (CacheStatus.EXACT, CacheStatus.SEMANTIC, CacheStatus.JOINED)


def ledger_config(folder: Path, **settings: object) -> Config:
    """A configuration with the ledger in ``folder``, whose models charge less for prompt tokens from a cache."""
    config = load_config()
    models = {
        name: model.model_copy(
            update={"price": price.model_copy(update={"cached_input_per_1k": price.input_per_1k / 10})}
        )
        for name, model in config.models.items()
        for price in [config.model_price(name)]
    }
    ledger = config.ledger.model_copy(update={"folder": folder, **settings})
    return config.model_copy(update={"ledger": ledger, "models": models})


def made_up_replies(config: Config, count: int, days: int = 3) -> list[Reply]:
    """Replies of all kinds, spread over some days: hits, escalated ones, failed ones, on both lanes."""
    chance = random.Random(1)
    return [_reply(config, chance, number, NOW_MS + number * days * DAY_MS // count) for number in range(count)]


def _reply(config: Config, chance: random.Random, number: int, completed_ms: int) -> Reply:
    status = chance.choices(list(CacheStatus), [30, 15, 5, 45, 5])[0]
    tier = chance.choices(list(config.tiers), [60, 30, 10])[0]
    lane = Lane.BATCH if chance.random() < 0.2 else Lane.INTERACTIVE
    usage = Usage(prompt_tokens=chance.randint(20, 900), completion_tokens=chance.randint(1, 400))
    path, error, cost = [], None, 0.0
    if status not in REUSED:
        usage = _part_cached(usage, chance)
        if tier != "small" and chance.random() < 0.3:
            path.append(_hop(config, usage, lane))
        if chance.random() < 0.05:
            error = ReplyError(code="engine_failed", message="the engine broke", retryable=True)
        cost = sum(hop.cost for hop in path) + prices.cost(usage, config.price(tier), lane)
    return Reply(
        request_id=f"request-{number}",
        tenant=chance.choice(["acme", "globex", "initech"]),
        user=chance.choice([None, "ann", "bob"]),
        endpoint=chance.choice(["/chat", "/summary", None]),
        category=chance.choice(["support", "code"]),
        lane=lane,
        completed_ms=completed_ms,
        cache_status=status,
        text="Print the label from your account.",
        error=error,
        usage=usage,
        similarity=0.97 if status is CacheStatus.SEMANTIC else None,
        route=make_route(tier="small" if path else tier, complexity=chance.random()),
        model_id=config.tiers[tier].model,
        hops=0 if status in REUSED else 1 + len(path),
        latency=Latency(total_ms=chance.lognormvariate(5, 1)),
        cost=cost,
        baseline_cost=prices.baseline_cost(usage, config),
        tier=tier,
        review=chance.random() < 0.02,
        path=path,
    )


def _part_cached(usage: Usage, chance: random.Random) -> Usage:
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_prompt_tokens=chance.randint(0, usage.prompt_tokens),
    )


def _hop(config: Config, usage: Usage, lane: Lane) -> Hop:
    return Hop(
        tier="small",
        model_id=config.tiers["small"].model,
        reason="confidence",
        confidence=0.2,
        usage=usage,
        cost=prices.cost(usage, config.price("small"), lane),
    )


def entries(replies: Iterable[Reply], partitions: int = 2) -> list[Entry]:
    """The replies as records of a topic."""
    return [
        Entry("llm.replies", number % partitions, number // partitions, reply) for number, reply in enumerate(replies)
    ]


def reply_writer(config: Config, folder: LedgerFolder) -> LedgerWriter:
    """What writes replies to a folder."""
    return LedgerWriter(folder, ReplyTable(folder, config), config.ledger)


def fill(config: Config, replies: Iterable[Reply], file_rows: int = 1000) -> None:
    """Write replies to the configured folder, so many a file."""
    folder = LedgerFolder(config.ledger.folder)
    writer = reply_writer(config, folder)
    records = entries(replies)
    for begin in range(0, len(records), file_rows):
        writer.add(records[begin : begin + file_rows], now_s=0.0)
        writer.flush()
    folder.close()


def fill_feedback(config: Config, given: Iterable[Feedback]) -> None:
    """Write feedback to the configured folder, in the order in which it was given."""
    folder = LedgerFolder(config.ledger.folder / FEEDBACK)
    writer = LedgerWriter(folder, FeedbackTable(config, LedgerMetrics(CollectorRegistry())), config.ledger)
    writer.add([Entry("llm.feedback", 0, offset, feedback) for offset, feedback in enumerate(given)], now_s=0.0)
    writer.flush()
    folder.close()
