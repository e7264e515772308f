"""What a batch would cost, told from its rows alone: nothing is sent."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing

import msgspec
from forebay_schemas.canonical import all_messages
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.prices import cost, tiers_for, upper_bound
from forebay_schemas.records import BatchState, Lane, Request, Usage

from ..preparing import Preparation
from .rows import Row, Source
from .sending import prepare

CHARS_PER_TOKEN = 4
"""Of English text, roughly."""
_TOLD_EVERY = 1_000


class Projection(msgspec.Struct, kw_only=True):
    """What there is in a file, and what its answers would cost in US dollars.

    Attributes:
        refused: rows that make no request that could be answered; ``first_problem`` tells of the first.
        repeated: rows that equal one before them, so that they share its answer.
        prompt_tokens: of the rows that are generated, about.
        by_tier: if each tier alone answered all that it may, and as long as it may; without those that may answer none.
        at_most: whatever tiers are asked in turn; what a price ceiling reckons with.
    """

    rows: int = 0
    refused: int = 0
    first_problem: str = ""
    repeated: int = 0
    prompt_tokens: int = 0
    by_tier: dict[str, float] = {}
    at_most: float = 0.0


def project(
    state: BatchState, source: Source, config: Config, preparation: Preparation, told: Callable[[int], object]
) -> Projection:
    """Look at every row as it would be sent, in bounded memory."""
    found = Projection()
    with closing(sqlite3.connect("")) as known:
        known.execute("CREATE TABLE known (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        for row in source.rows():
            found.rows = row.number
            try:
                request = prepare(row, state, preparation).request
            except RecordError as error:
                found.refused += 1
                found.first_problem = found.first_problem or f"{row.place}: {error}"
                continue
            if known.execute("INSERT OR IGNORE INTO known VALUES (?)", (_digest(row),)).rowcount:
                _add(found, request, config)
            else:
                found.repeated += 1
            if row.number % _TOLD_EVERY == 0:
                told(row.number)
    found.by_tier = {name: found.by_tier[name] for name in config.tiers if name in found.by_tier}
    return found


def _add(found: Projection, request: Request, config: Config) -> None:
    chars = sum(len(turn.content or "") for turn in all_messages(request)) + sum(map(len, request.passages))
    tokens = chars // CHARS_PER_TOKEN
    found.prompt_tokens += tokens
    found.at_most += upper_bound(request, config, Lane.BATCH)
    for name in tiers_for(request, config):
        longest = config.tiers[name].max_tokens
        usage = Usage(prompt_tokens=tokens, completion_tokens=min(request.max_tokens or longest, longest))
        found.by_tier[name] = found.by_tier.get(name, 0.0) + cost(usage, config.price(name), Lane.BATCH)


def _digest(row: Row) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(row.fields, order="deterministic"), digest_size=16).digest()
