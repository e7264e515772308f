"""A ledger of made-up replies, the same ones each time, for measuring what reads it."""

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forebay_jobs.router.features import FEATURES
from forebay_jobs.router.ladder import choose
from forebay_schemas.config import load_config

from ..ledger import feedback
from ..ledger.columns import SCHEMA
from ..ledger.folder import FEEDBACK, LedgerFolder
from ..ledger.upkeep import ROW_GROUP_ROWS
from ..ledger.writer import COMPRESSION
from .harness import Say

DAYS = 90
END = dt.datetime(2026, 1, 1)
_STATUSES = ("exact", "semantic", "joined", "miss", "bypass")
_SHARES = (0.30, 0.15, 0.03, 0.48, 0.04)
_SEMANTIC, _JOINED, _MISS = 1, 2, 3
_CATEGORIES = ("support", "chat", "extraction", "code")
_NEAR = 0.95
"""The threshold by default: what was given again is nearer, and what is nearest to a miss is not."""
_RATED = 0.02
_STEPS = 1600
"""Complexities are that many steps from 0 to 1: as fine as the router tells lengths apart."""

_Columns = dict[str, Any]


@contextmanager
def made_up_ledger(rows: int, say: Say) -> Iterator[Path]:
    """The folder of a ledger of so many replies, for as long as it is measured."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        say(f"making {rows:,} replies up")
        make_up(Path(folder), rows)
        yield Path(folder)


def make_up(root: Path, rows: int, days: int = DAYS) -> None:
    """Fill a ledger with replies, and thumbs for some, one file a day of each; the last day is 2025-12-31."""
    folders = LedgerFolder(root), LedgerFolder(root / FEEDBACK)
    made_up = _MadeUp(rows // days)
    written: tuple[list[Path], list[Path]] = [], []
    for day in range(days):
        begin = END - dt.timedelta(days=days - day)
        replies = made_up.replies(begin, rows // days + (day < rows % days))
        for folder, files, table in zip(folders, written, (replies, made_up.feedback(replies)), strict=True):
            files.append(folder.new_file(begin.date().isoformat()))
            pq.write_table(table, files[-1], compression=COMPRESSION, row_group_size=ROW_GROUP_ROWS)
    for folder, files in zip(folders, written, strict=True):
        folder.commit(files)
        folder.close()


class _MadeUp:
    """Replies that hang together: an answer given again was given to the same tenant in the same category within the
    last day, one that was joined ends with its leader, and tiers and costs are those of the configuration."""

    def __init__(self, a_day: int) -> None:
        self._generator = np.random.default_rng(1)
        self._most_back = max(1, a_day // 2)
        """How many answers lie between one and its reuse at most: half of a day's replies are kept."""
        self._number = 0
        self._kept: _Columns = {}
        config = load_config()
        tiers = list(config.tiers)
        self._tier_of = np.array(
            [
                [
                    tiers.index(choose(step / _STEPS, recognised, "", None, None, config).tier)
                    for step in range(_STEPS + 1)
                ]
                for recognised in (False, True)
            ]
        )
        self._tiers, self._models = tiers, [config.tiers[tier].model for tier in tiers]
        self._limits = np.array([config.tiers[tier].max_tokens for tier in tiers])
        prices = [config.price(tier) for tier in tiers]
        self._dollars = np.array([[price.input_per_1k, price.output_per_1k] for price in prices]) / 1000

    def replies(self, begin: dt.datetime, count: int) -> pa.Table:
        """Those of a day."""
        generator = self._generator
        status = generator.choice(5, count, p=_SHARES)
        if not self._kept:
            status[:1] = _MISS
        generated = status >= _MISS
        failed, doubted = (generated & (generator.random(count) < share) for share in (0.001, 0.004))
        failed[:1] = doubted[:1] = False
        numbers = np.arange(self._number, self._number + count)
        asked = self._asked(count, status, kept=(status == _MISS) & ~failed & ~doubted)
        tier, batch = self._tier_of[asked["recognised"], asked["step"]], asked["batch"]
        tokens = np.stack((asked["prompt"], np.minimum(asked["completion"], self._limits[tier])), axis=1)
        full = (tokens * self._dollars[tier]).sum(axis=1) * generated
        columns = {
            "completed_at": pa.array(np.datetime64(begin, "ms") + asked["ends_ms"].astype("timedelta64[ms]")),
            "request_id": pa.array(numbers).cast(pa.string()),
            "tenant": _named(asked["tenant"], "tenant"),
            "user": _named(generator.integers(0, 100_000, count), "user"),
            "endpoint": _named(generator.zipf(1.3, count) % 40, "endpoint"),
            "category": _chosen(asked["category"], _CATEGORIES),
            "lane": _chosen(batch.astype(int), ("interactive", "batch")),
            "cache_status": _chosen(status, _STATUSES),
            "similarity": self._similarities(status),
            "matched_request_id": pa.array(asked["number"], mask=generated).cast(pa.string()),
            "tier": _chosen(tier, self._tiers),
            "model_id": _chosen(tier, self._models),
            "route_tier": _chosen(tier, self._tiers),
            "route_reason": _chosen(np.zeros(count, int), ("complexity",)),
            "complexity": pa.array(asked["step"] / _STEPS),
            "features": _features(asked["step"] / _STEPS, asked["recognised"]),
            "hops": pa.array(generated.astype(np.int32)),
            "finish_reason": _chosen(np.zeros(count, int), ("stop",)),
            "error_code": pa.array(np.where(failed, "engine_failed", ""), mask=~failed),
            "review": pa.array(doubted),
            "prompt_tokens": pa.array(tokens[:, 0].astype(np.int32)),
            "completion_tokens": pa.array(tokens[:, 1].astype(np.int32)),
            "total_ms": pa.array(asked["total_ms"]),
            "cost": pa.array(full * np.where(batch, 0.5, 1.0)),
            "baseline_cost": pa.array((tokens * self._dollars[-1]).sum(axis=1)),
            "saved_by_batch": pa.array(full * np.where(batch, 0.5, 0.0)),
            "saved_by_prefix_cache": pa.array(np.zeros(count)),
            "escalation_cost": pa.array(np.zeros(count)),
            "repeat": pa.array(generator.random(count) < 0.0001),
            "offset": pa.array(numbers),
        }
        return pa.table([columns.get(field.name, pa.nulls(count, field.type)) for field in SCHEMA], schema=SCHEMA)

    def feedback(self, replies: pa.Table) -> pa.Table:
        """What is said of some of a day's replies."""
        generator = self._generator
        rated = replies.take(np.flatnonzero(generator.random(len(replies)) < _RATED))
        columns = {
            "given_at": rated["completed_at"],
            "verdict": _chosen((generator.random(len(rated)) < 0.1).astype(int), ("up", "down")),
            "source": _chosen(np.zeros(len(rated), int), ("user",)),
            **{name: rated[name] for name in ("request_id", "tenant", "user", "offset")},
        }
        schema = feedback.SCHEMA
        return pa.table([columns.get(field.name, pa.nulls(len(rated), field.type)) for field in schema], schema=schema)

    def _asked(self, count: int, status: Any, kept: Any) -> _Columns:
        """What each request asks; those that are not generated ask again what was answered and kept before them."""
        own = self._new(count, status)
        answers = {name: values[kept] for name, values in own.items()}
        if self._kept:
            answers = {name: np.concatenate((self._kept[name], values)) for name, values in answers.items()}
        newest = len(answers["number"]) - kept.sum() + np.cumsum(kept) - 1
        back = self._generator.exponential(self._most_back / 4, count).astype(int) % self._most_back
        again = np.maximum(0, newest - np.where(status == _JOINED, 0, back))
        self._kept = {name: values[-self._most_back :] for name, values in answers.items()}
        asked = {name: np.where(status >= _MISS, values, answers[name][again]) for name, values in own.items()}
        # Who joins a flight, on its lane, comes while it goes on; of one that began the day before, nobody does.
        joins = (status == _JOINED) & (own["ends_ms"] > asked["ends_ms"])
        for name in ("ends_ms", "total_ms", "batch"):
            asked[name] = np.where(joins, asked[name], own[name])
        asked["total_ms"][joins] /= 2
        return asked

    def _new(self, count: int, status: Any) -> _Columns:
        """What each request would ask if it asked something new, and when its reply comes in the day."""
        generator = self._generator
        first = self._number
        self._number += count
        return {
            "number": np.arange(first, first + count),
            "tenant": generator.zipf(1.4, count) % 50,
            "category": generator.integers(0, len(_CATEGORIES), count),
            "prompt": generator.geometric(1 / 300, count),
            "completion": generator.geometric(1 / 120, count),
            "step": (generator.beta(1, 3, count) * _STEPS).astype(int),
            "recognised": (generator.random(count) < 0.85).astype(int),
            "batch": generator.random(count) < 0.2,
            "ends_ms": np.sort(generator.integers(0, 86_400_000, count)),
            "total_ms": generator.lognormal(np.where(status >= _MISS, 6.5, 2.0), 0.7),
        }

    def _similarities(self, status: Any) -> pa.Array:
        generator, count = self._generator, len(status)
        hit, miss = 1 - generator.beta(1, 2, count) * (1 - _NEAR), _NEAR - generator.beta(1, 3, count) * _NEAR
        return pa.array(np.where(status == _SEMANTIC, hit, miss), mask=(status != _SEMANTIC) & (status != _MISS))


def _features(length: Any, recognised: Any) -> pa.Array:
    """Of each request a map from names to values; all but two are 0."""
    count, width = len(length), len(FEATURES)
    values = np.zeros((count, width))
    values[:, FEATURES.index("length")], values[:, FEATURES.index("recognised")] = length, recognised
    names = _chosen(np.tile(np.arange(width), count), FEATURES)
    return pa.MapArray.from_arrays(pa.array(np.arange(count + 1) * width, pa.int32()), names, pa.array(values.ravel()))


def _chosen(places: Any, names: Any) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(places), pa.array(names)).cast(pa.string())


def _named(numbers: Any, what: str) -> pa.Array:
    return pa.array(np.char.add(f"{what}-", numbers.astype(str)))
