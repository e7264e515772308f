"""The ledger's files: every reply once, whichever step a crash hits; repeats, upkeep, columns."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from forebay_ops.ledger import forgetting
from forebay_ops.ledger.columns import SCHEMA
from forebay_ops.ledger.folder import LedgerFolder, current_files, read_progress, seconds_since_alive
from forebay_ops.ledger.repeats import WINDOW_MS, Repeats
from forebay_ops.ledger.tables import Entry
from forebay_ops.ledger.upkeep import tidy
from forebay_ops.reporting import query
from forebay_ops.simulation import ledger as traffic
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.records import CacheStatus, Hop, Lane, Reply, ReplyError, Usage
from forebay_schemas.tiers import ModelConfig

from tests.builders import NOW_MS, make_reply

from .made_up import DAY_MS, entries, fill, ledger_config, made_up_replies, reply_writer


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return ledger_config(tmp_path / "ledger")


def rows(config: Config, columns: str = "*", where: str = "true") -> list[Any]:
    """What a plain query sees."""
    pattern = f"{config.ledger.folder}/day=*/*.parquet"
    query = f"SELECT {columns} FROM read_parquet('{pattern}', hive_partitioning=true) WHERE {where} ORDER BY ALL"
    return duckdb.sql(query).fetchall()


def only(config: Config, columns: str) -> dict[str, Any]:
    [row] = rows(config, columns)
    return dict(zip(columns.split(", "), row, strict=True))


class _Killed(BaseException):
    pass


class _Kill:
    """Ends the process, as far as a test can, at the n-th step that changes something on the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        for place, name in ((Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (Path, "write_bytes"), (os, "fsync")):
            monkeypatch.setattr(place, name, self._step(getattr(place, name)))
        monkeypatch.setattr(pq, "write_table", self._step(pq.write_table))

    def _step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise _Killed
            return original(*arguments, **named)

        return step


def _write_all(config: Config, records: list[Entry]) -> None:
    """As the recorder does: go on after the ends, a few records at a time, then tidy up."""
    folder = LedgerFolder(config.ledger.folder)
    try:
        writer = reply_writer(config, folder)
        ends = writer.ends.get("llm.replies", {})
        left = [record for record in records if record.offset >= ends.get(record.partition, 0)]
        for begin in range(0, len(left), 3):
            writer.add(left[begin : begin + 3], now_s=0.0)
            writer.flush()
        for file in current_files(config.ledger.folder):
            os.utime(file, (0, 0))
        tidy(folder, SCHEMA, dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC) + dt.timedelta(days=2), 400)
    finally:
        folder.close()


def _request_ids(config: Config) -> list[str]:
    tables = [pq.ParquetFile(file).read(["request_id"]) for file in current_files(config.ledger.folder)]
    return sorted(name for table in tables for name in table["request_id"].to_pylist())


@pytest.mark.stack
def test_whichever_step_a_crash_hits_every_reply_is_there_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [make_reply(request_id=f"r{number}", completed_ms=NOW_MS + number % 2 * DAY_MS) for number in range(6)]
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk outlives this crash, and syncing takes seconds
    crashes = 0
    for at in range(1, 200):
        config = ledger_config(config.ledger.folder.with_name(f"crash-{at}"))
        with monkeypatch.context() as patched:
            kill = _Kill(patched, at)
            try:
                _write_all(config, entries(replies))
            except _Killed:
                crashes += 1
            else:
                assert kill.left > 0
                break
        seen = _request_ids(config)
        assert len(seen) == len(set(seen)), f"twice for a reader after step {at}"
        _write_all(config, entries(replies))
        assert _request_ids(config) == [f"r{number}" for number in range(6)], f"after a crash at step {at}"
        assert not list(config.ledger.folder.rglob("*.unfinished"))
    assert crashes > 50, "writing a file for each of two days twice, and merging them"


def test_replies_of_two_days_are_written_in_one_step(config: Config) -> None:
    fill(config, [make_reply(request_id="a"), make_reply(request_id="b", completed_ms=NOW_MS + DAY_MS)])
    assert rows(config, "day::VARCHAR, request_id") == [("2025-10-09", "a"), ("2025-10-10", "b")]
    assert read_progress(config.ledger.folder).ends == {"llm.replies": {0: 1, 1: 1}}


def test_records_that_hold_no_reply_are_passed_over(config: Config) -> None:
    folder = LedgerFolder(config.ledger.folder)
    writer = reply_writer(config, folder)
    writer.add([Entry("llm.replies", 0, 4, None)], now_s=0.0)
    assert not writer.due(now_s=1e9)
    writer.add([Entry("llm.replies", 0, 5, make_reply()), Entry("llm.replies", 0, 6, None)], now_s=0.0)
    writer.flush()
    assert writer.ends == {"llm.replies": {0: 7}}
    assert len(rows(config)) == 1


def test_a_file_is_due_when_there_are_enough_replies_or_they_have_waited(tmp_path: Path) -> None:
    config = ledger_config(tmp_path, roll_rows=3, roll_s=10.0)
    writer = reply_writer(config, LedgerFolder(tmp_path))
    one, two = entries([make_reply(request_id="a"), make_reply(request_id="b")]), entries([make_reply()])
    writer.add(one, now_s=100.0)
    assert (writer.due(now_s=109.0), writer.due(now_s=110.0)) == (False, True)
    writer.add(two, now_s=101.0)
    assert writer.due(now_s=101.0)
    writer.flush()
    assert not writer.due(now_s=1000.0)


def test_one_process_writes_to_a_folder(config: Config) -> None:
    first = LedgerFolder(config.ledger.folder)
    with pytest.raises(ConfigError, match=r"ledger\.folder: another process"):
        LedgerFolder(config.ledger.folder)
    first.close()
    LedgerFolder(config.ledger.folder).close()


def test_progress_that_cannot_be_read_is_told_and_not_begun_anew(config: Config) -> None:
    fill(config, [make_reply()])
    (config.ledger.folder / "progress.json").write_text("{")
    with pytest.raises(ForebayError, match=r"progress\.json tells no progress"):
        LedgerFolder(config.ledger.folder)


# --- repeats


def test_a_reply_to_a_request_that_was_answered_is_marked_as_a_repeat(config: Config) -> None:
    again = make_reply(completed_ms=NOW_MS + 9_000, cache_status=CacheStatus.EXACT)
    fill(config, [make_reply(), again, make_reply(tenant="globex")])
    assert rows(config, "tenant, cache_status, repeat") == [
        ("acme", "exact", True),
        ("acme", "miss", False),
        ("globex", "miss", False),
    ]


def test_repeats_are_known_to_the_next_process(config: Config) -> None:
    fill(config, [make_reply(request_id=f"r{number}") for number in range(30)], file_rows=4)
    folder = LedgerFolder(config.ledger.folder)
    writer = reply_writer(config, folder)
    writer.add([Entry("llm.replies", 0, 15, make_reply(request_id="r3"))], now_s=0.0)
    writer.flush()
    assert rows(config, "request_id", "repeat") == [("r3",)]


def test_an_id_that_is_used_again_much_later_is_a_new_request() -> None:
    repeats = Repeats()
    assert not repeats.is_repeat("acme", "row-1", NOW_MS, None)
    assert not repeats.is_repeat("acme", "row-1", NOW_MS + WINDOW_MS + 1, None)
    assert repeats.is_repeat("acme", "row-1", NOW_MS + WINDOW_MS + 2, None)


def test_after_a_retryable_error_the_next_reply_is_no_repeat() -> None:
    repeats = Repeats()
    assert not repeats.is_repeat("acme", "r1", NOW_MS, True)
    assert not repeats.is_repeat("acme", "r1", NOW_MS + 1, None)
    assert repeats.is_repeat("acme", "r1", NOW_MS + 2, None)
    assert not repeats.is_repeat("acme", "r2", NOW_MS, False)
    assert repeats.is_repeat("acme", "r2", NOW_MS + 1, None)


def test_no_more_than_the_limit_is_remembered() -> None:
    repeats = Repeats(limit=2)
    for name in ("a", "b", "c"):
        assert not repeats.is_repeat("acme", name, NOW_MS, None)
    assert not repeats.is_repeat("acme", "a", NOW_MS, None)
    assert repeats.is_repeat("acme", "c", NOW_MS, None)


# --- upkeep


def _tidied(config: Config, days_later: float, written_s_ago: float = 7200) -> None:
    now = dt.datetime.fromtimestamp(NOW_MS / 1000, dt.UTC) + dt.timedelta(days=days_later)
    for file in current_files(config.ledger.folder):
        os.utime(file, (0, now.timestamp() - written_s_ago))
    folder = LedgerFolder(config.ledger.folder)
    tidy(folder, SCHEMA, now, config.ledger.retention_days)
    folder.close()


def _files_by_day(config: Config) -> dict[str, int]:
    folder = LedgerFolder(config.ledger.folder)
    found = {day: len(files) for day, files in folder.days()}
    folder.close()
    return found


def test_a_past_day_becomes_one_file_with_the_same_rows(config: Config) -> None:
    fill(config, made_up_replies(config, 60, days=2), file_rows=10)
    before = rows(config)
    _tidied(config, days_later=1)
    past, today, _ = _files_by_day(config).values()
    assert past == 1
    assert today > 1, "it may still get more"
    assert rows(config) == before


def test_a_file_from_before_a_column_was_added_becomes_one_with_newer_ones(config: Config) -> None:
    fill(config, [make_reply(request_id=f"r{number}", cost=0.5) for number in range(4)], file_rows=2)
    older, _ = current_files(config.ledger.folder)
    table = pq.ParquetFile(older).read()
    pq.write_table(table.drop_columns(["cost"]), older)
    _tidied(config, days_later=2)
    [file] = current_files(config.ledger.folder)
    assert pq.read_schema(file).equals(SCHEMA)
    costs = {name: None if name in table["request_id"].to_pylist() else 0.5 for name in ("r0", "r1", "r2", "r3")}
    assert dict(rows(config, "request_id, cost")) == costs


def test_a_past_day_that_was_written_lately_is_left_alone(config: Config) -> None:
    fill(config, made_up_replies(config, 60, days=1), file_rows=10)
    before = _files_by_day(config)
    _tidied(config, days_later=3, written_s_ago=60)
    assert _files_by_day(config) == before


def test_days_before_the_retention_are_deleted_and_not_read_again(tmp_path: Path) -> None:
    config = ledger_config(tmp_path / "ledger", retention_days=2)
    fill(config, made_up_replies(config, 40, days=4))
    ends = read_progress(config.ledger.folder).ends
    _tidied(config, days_later=4)
    assert list(_files_by_day(config)) == ["2025-10-11", "2025-10-12", "2025-10-13"]
    assert read_progress(config.ledger.folder).ends == ends


# --- readers


def _counted(config: Config) -> int:
    return forgetting.count(config.ledger.folder, forgetting.Whom(tenant="acme"))["replies"]


def _reported(config: Config) -> int:
    return query.query(config.ledger.folder, now=dt.datetime.fromtimestamp(NOW_MS / 1000)).totals.replies


def _as_traffic(config: Config) -> int:
    return len(traffic.read_ledger(config.ledger.folder, config).traffic.at_ms)


@pytest.mark.parametrize(
    ("module", "read"),
    [(forgetting, _counted), (query, _reported), (traffic, _as_traffic)],
    ids=["forget", "report", "plan"],
)
def test_a_reader_whose_files_are_replaced_meanwhile_begins_anew(
    config: Config, monkeypatch: pytest.MonkeyPatch, module: ModuleType, read: Callable[[Config], int]
) -> None:
    fill(config, [make_reply(request_id=f"r{number}") for number in range(6)], file_rows=2)
    listed: list[list[Path]] = []

    def list_before_it_is_tidied(root: Path) -> list[Path]:
        files = current_files(root)
        if files and not listed:
            _tidied(config, days_later=2)
        listed.append(files)
        return files

    monkeypatch.setattr(module, "current_files", list_before_it_is_tidied)
    assert read(config) == 6
    assert not any(file.exists() for file in listed[0])


def test_files_that_stay_away_are_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(config, [make_reply()])
    gone = config.ledger.folder / "day=2025-10-09" / "gone.parquet"
    for module, read in ((forgetting, _counted), (query, _reported), (traffic, _as_traffic)):
        monkeypatch.setattr(module, "current_files", lambda _: [gone])
        with pytest.raises(ForebayError, match=r"the ledger in .* cannot be read \(.*gone.*\); look at its files"):
            read(config)


def test_a_file_that_is_spoilt_is_told(config: Config) -> None:
    fill(config, [make_reply()])
    [file] = current_files(config.ledger.folder)
    file.write_bytes(b"no Parquet")
    for read in (_counted, _reported, _as_traffic):
        with pytest.raises(ForebayError, match=r"the ledger in .* cannot be read \(.*\); look at its files"):
            read(config)


# --- columns


def test_every_field_of_a_reply_has_its_column(config: Config) -> None:
    apart = {
        "completed_ms": "completed_at", "error": "error_code", "usage": "prompt_tokens", "route": "route_tier",
        "latency": "total_ms",
    }  # fmt: skip
    for field in Reply.__struct_fields__:
        assert apart.get(field, field) in SCHEMA.names
    assert len(rows(config := _filled(config))[0]) == len(SCHEMA) + 1, "and the day"


def _filled(config: Config) -> Config:
    fill(config, [make_reply()])
    return config


def test_texts_are_left_out_unless_they_are_wanted(tmp_path: Path) -> None:
    failed = ReplyError(code="internal", message="no such thing as 'my secret'", retryable=True)
    replies = [make_reply(request_id="a"), make_reply(request_id="b", text="", error=failed)]
    for texts in (False, True):
        config = ledger_config(tmp_path / str(texts), texts=texts)
        fill(config, replies)
        columns = "request_id, text, error_code, error_message"
        text, message = ("Print the label from your account.", failed.message) if texts else (None, None)
        answered = ("a", text, None, None)
        assert rows(config, columns) == [answered, ("b", "" if texts else None, "internal", message)]


def test_savings_are_told_apart(config: Config) -> None:
    usage = Usage(prompt_tokens=1000, completion_tokens=100, cached_prompt_tokens=600)
    small, large = config.price("small"), config.price("large")
    hop = Hop(tier="small", model_id="llama-3.1-8b", reason="confidence", usage=usage, cost=1e-6)
    reply = make_reply(
        lane=Lane.BATCH, usage=usage, tier="large", model_id="llama-3.1-405b", hops=2, path=[hop], cost=1.0
    )
    fill(config, [reply])
    found = only(config, "saved_by_batch, saved_by_prefix_cache, escalation_cost")

    def interactive(price: Any) -> float:
        return (400 * price.input_per_1k + 600 * price.cached_input_per_1k + 100 * price.output_per_1k) / 1000

    def plain(price: Any) -> float:
        return (1000 * price.input_per_1k + 100 * price.output_per_1k) / 1000

    assert found["saved_by_batch"] == pytest.approx((interactive(small) + interactive(large)) / 2)
    cached = sum(plain(price) - interactive(price) for price in (small, large))
    assert found["saved_by_prefix_cache"] == pytest.approx(cached)
    assert found["escalation_cost"] == pytest.approx(hop.cost + plain(small) - interactive(small) / 2)


@pytest.mark.parametrize(("charged", "saved"), [(0.5, 0.5), (0.6, 0.5), (1.0, 0.0)])
def test_a_provider_with_batches_of_its_own_saves_by_those_only(tmp_path: Path, charged: float, saved: float) -> None:
    provider = ModelConfig.model_validate(
        {
            "backend": "openai",
            "endpoint": {"url": "https://provider.example/v1", "batch_api": True},
            "price": {"input_per_1k": 1.0, "output_per_1k": 1.0},
        }
    )
    config = ledger_config(tmp_path)
    config = config.model_copy(update={"models": config.models | {config.tiers["small"].model: provider}})
    model_id, usage = config.tiers["small"].model, Usage(prompt_tokens=900, completion_tokens=100)
    reply = make_reply(lane=Lane.BATCH, tier="small", model_id=model_id, usage=usage, cost=charged)
    fill(config, [reply])
    assert only(config, "saved_by_batch") == {"saved_by_batch": pytest.approx(saved)}


def test_the_savings_of_a_model_that_is_not_configured_any_more_are_none(config: Config) -> None:
    fill(config, [make_reply(lane=Lane.BATCH, tier="gone", model_id="gone", usage=Usage(prompt_tokens=9), hops=1)])
    assert only(config, "saved_by_batch, saved_by_prefix_cache") == {"saved_by_batch": 0, "saved_by_prefix_cache": 0}


def test_the_path_tells_why_it_went_on(config: Config) -> None:
    hop = Hop(tier="small", model_id="llama-3.1-8b", reason="refusal")
    fill(config, [make_reply(path=[hop, hop], hops=3)])
    assert rows(config, "list_transform(path, lambda hop: hop.reason)") == [(["refusal", "refusal"],)]


def test_a_ledger_that_is_stuck_can_be_told_from_one_at_work(config: Config) -> None:
    folder = LedgerFolder(config.ledger.folder)
    os.utime(config.ledger.folder / "lock", (0, 0))
    assert seconds_since_alive(config.ledger.folder) > 1e9
    folder.beat()
    assert seconds_since_alive(config.ledger.folder) < 60
