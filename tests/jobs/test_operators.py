"""The operators' own parts: the desk's state on Flink's, what crosses between operators, and the tables' SQL."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of its own, on import
    pytest.importorskip("pyflink.table", reason="apache-flink is not installed")

from forebay_jobs.kafka_tables import read_topics
from forebay_jobs.messages import Flight, Outgoing, Place, Thumb
from forebay_jobs.operators import desk as desk_operator
from forebay_jobs.operators.desk import _FlinkState
from forebay_jobs.operators.rows import outgoing_row, raw_bytes
from forebay_jobs.pipeline import _result_to_desk
from forebay_jobs.topics_used import feedback_topics, request_topics, written_topics
from forebay_schemas.config import load_config
from forebay_schemas.records import Lane
from forebay_schemas.sections import RequestTopic
from forebay_schemas.topics import BUCKET
from pydantic import SecretStr
from pyflink.common import Row

from tests.builders import NOW_MS, make_request, make_result
from tests.jobs.doubles import an_arrival, an_asker, an_invalidation, configured


class MapState(dict[Any, Any]):
    """Flink's map state as far as it is used."""

    def put(self, key: Any, value: Any) -> None:
        self[key] = value

    def remove(self, key: Any) -> None:
        self.pop(key, None)


class ListState:
    """Flink's list state as far as it is used; what is empty reads as None."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def get(self) -> Iterator[Any] | None:
        return iter(self.values) if self.values else None

    def add(self, value: Any) -> None:
        self.values.append(value)

    def clear(self) -> None:
        self.values = []


class ValueState:
    """Flink's value state as far as it is used."""

    kept: Any = None

    def value(self) -> Any:
        return self.kept

    def update(self, value: Any) -> None:
        self.kept = value

    def clear(self) -> None:
        self.kept = None


class Runtime:
    """Flink's runtime context and timers as far as they are used."""

    def __init__(self) -> None:
        self.maps: dict[str, MapState] = {}
        self.one = ValueState()
        self.lists: dict[str, ListState] = {}
        self.timers: set[int] = set()

    def get_map_state(self, descriptor: Any) -> MapState:
        return self.maps.setdefault(descriptor.get_name(), MapState())

    def get_state(self, descriptor: Any) -> "ValueState":
        return self.one

    def get_list_state(self, descriptor: Any) -> ListState:
        return self.lists.setdefault(descriptor.get_name(), ListState())

    def register_processing_time_timer(self, at_ms: int) -> None:
        self.timers.add(at_ms)


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = Runtime()
        self.state = _FlinkState(self.runtime, 5)  # pyright: ignore[reportArgumentType]: a double of the context
        self.state.timers = self.runtime
        self.now_ms = NOW_MS
        monkeypatch.setattr(desk_operator, "now_ms", lambda: self.now_ms)

    def fire(self) -> list[str]:
        """The earliest timer fires; what is due then."""
        at_ms = min(self.runtime.timers)
        self.runtime.timers.remove(at_ms)
        self.state.fired_ms = at_ms
        return self.state.take_due(max(at_ms, self.now_ms))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_flights_and_waiters_come_back_as_they_were_put(rig: Rig) -> None:
    flight = Flight(leader=an_arrival(make_request()), vector=b"\0\1", expires_ms=NOW_MS)
    rig.state.put_flight("key", flight)
    rig.state.put_waiter("key", 7, an_asker(make_request()))
    assert rig.state.flight("key") == flight
    assert rig.state.waiter("key", 7) == an_asker(make_request())
    assert (rig.state.flight("other"), rig.state.waiter("key", 0)) == (None, None)
    rig.state.drop_flight("key")
    rig.state.drop_waiter("key", 7)
    rig.state.drop_waiter("key", 7)
    assert rig.runtime.maps["flights"] == rig.runtime.maps["waiters"] == {}


def test_places_and_orphans_come_back_as_they_were_put(rig: Rig) -> None:
    rig.state.put_place("4:acme:one", Place(flight="key", number=3))
    assert rig.state.place("4:acme:one") == Place(flight="key", number=3)
    rig.state.drop_place("4:acme:one")
    assert rig.state.place("4:acme:one") is None
    rig.state.put_orphan(make_result())
    assert rig.state.orphan("task-1") == make_result()
    rig.state.drop_orphan("task-1")
    assert rig.state.orphan("task-1") is None
    assert rig.state.orphan_queue() == []
    rig.state.put_orphan_queue([(NOW_MS, "task-1")])
    assert rig.state.orphan_queue() == [(NOW_MS, "task-1")]
    rig.state.put_orphan_queue([])
    assert rig.runtime.one.kept is None


def test_invalidations_that_wait_come_back_once_and_in_order(rig: Rig) -> None:
    assert rig.state.take_invalidations() == []
    for name in ("control/0/1", "control/0/2"):
        rig.state.add_invalidation(an_invalidation(name, source="prices"))
    assert [command.name for command in rig.state.take_invalidations()] == ["control/0/1", "control/0/2"]
    assert rig.state.take_invalidations() == []


def test_thumbs_that_wait_come_back_once_and_in_order(rig: Rig) -> None:
    thumbs = [Thumb(tenant="acme", request_id=name, up=False, source="user") for name in ("one", "other")]
    for thumb in thumbs:
        rig.state.add_thumb(thumb)
    assert rig.state.take_thumbs() == thumbs
    assert rig.state.take_thumbs() == []


def test_all_leaders_of_a_window_share_one_timer(rig: Rig) -> None:
    rig.state.add_pending("one")
    rig.now_ms += 4
    rig.state.add_pending("two")
    assert rig.runtime.timers == {NOW_MS + 5}
    rig.now_ms += 1
    rig.state.add_pending("three")
    assert rig.runtime.timers == {NOW_MS + 5, NOW_MS + 10}


def test_leaders_that_wait_are_told_once_in_a_life(rig: Rig) -> None:
    rig.state.add_pending("one")
    assert rig.state.take_new() == ["one"]
    rig.state.add_pending("two")
    assert rig.state.take_new() == ["two"]
    assert rig.state.take_new() == []
    rig.state.drop_pending("one")
    restored = _FlinkState(rig.runtime, 5)  # pyright: ignore[reportArgumentType]: a double of the context
    assert restored.take_new() == ["two"]
    assert restored.take_new() == []


def test_leaders_that_wait_in_the_savepoint_of_an_older_job_are_told_and_kept(rig: Rig) -> None:
    rig.runtime.lists["pending"].values = ["older"]
    assert rig.state.take_new() == ["older"]
    assert rig.state.take_new() == []
    restored = _FlinkState(rig.runtime, 5)  # pyright: ignore[reportArgumentType]: a double of the context
    assert restored.take_new() == ["older"]
    restored.drop_pending("older")
    assert _FlinkState(rig.runtime, 5).take_new() == []  # pyright: ignore[reportArgumentType]: as above


def test_what_is_due_is_told_by_the_timer_of_its_second_and_by_no_other(rig: Rig) -> None:
    rig.state.wake("early", NOW_MS + 1_000)
    rig.state.wake("too", NOW_MS + 1_999)
    rig.state.wake("late", NOW_MS + 9_000)
    rig.state.add_pending("leader")
    assert rig.fire() == []  # the window's
    rig.now_ms = NOW_MS + 60_000  # both of the others fire late, as after a restore
    assert rig.fire() == ["early", "too"]
    assert rig.fire() == ["late"]
    assert rig.runtime.timers == set()
    assert rig.runtime.maps["due"] == {}


def test_what_crosses_to_the_desk_names_its_bucket() -> None:
    row = Row(value=bytearray(b"v"), headers={BUCKET: bytearray(b"16.30")})
    assert _result_to_desk(row).bucket == "16.30"
    for headers in (None, {}, {BUCKET: None}):
        assert _result_to_desk(Row(value=None, headers=headers)).bucket == ""
    assert _result_to_desk(Row(value=b"v", headers={BUCKET: b"\xff"})).bucket == "\ufffd"


def test_rows_carry_records_as_they_are() -> None:
    assert (raw_bytes(None), raw_bytes(bytearray(b"x"))) == (b"", b"x")
    row = outgoing_row(Outgoing(topic="t", key=b"k", value=b"v", headers={"h": b"1"}))
    assert (row.topic, row.key, row.value, row.headers) == ("t", b"k", b"v", {"h": b"1"})


def test_each_lane_reads_its_topics_and_everything_that_is_written_has_a_topic() -> None:
    topics = {"night.requests": RequestTopic(lane="batch"), "shop.requests": RequestTopic()}
    config = configured(kafka={"reply_topics": ["shop.replies"]}).model_copy(update={"request_topics": topics})
    assert request_topics(config, Lane.INTERACTIVE) == ["llm.requests", "shop.requests"]
    assert request_topics(config, Lane.BATCH) == ["llm.requests.batch", "night.requests"]
    assert feedback_topics(config) == ["llm.feedback"]
    assert set(written_topics(config)) == {
        "llm.replies", "shop.replies", "llm.replies.stream", "llm.requests.dead", "llm.control",
        "llm.events", "llm.audit",
        *(f"llm.tier.{tier}{lane}" for tier in load_config().tiers for lane in ("", ".batch")),
    }  # fmt: skip


class Tables:
    """Keeps the SQL that it is given."""

    def __init__(self) -> None:
        self.sql = ""
        self.settings: dict[str, str] = {}
        self.uids: dict[str, str] = {}
        """The form of the uids with which a table was translated."""

    def get_config(self) -> Any:
        return SimpleNamespace(set=self.settings.__setitem__)

    def execute_sql(self, sql: str) -> None:
        self.sql = sql

    def from_path(self, name: str) -> str:
        return name

    def to_data_stream(self, table: str) -> str:
        self.uids[table] = self.settings["table.exec.uid.format"]
        return table


def test_only_sources_of_topics_that_were_made_anew_forget_their_offsets() -> None:
    tables: Any = Tables()
    read_topics(tables, "usual", ["a", "b"], configured(), {})
    read_topics(tables, "anew", ["a", "b"], configured(), {"b": "3"})
    read_topics(tables, "again", ["a", "b"], configured(), {"b": "4"})
    read_topics(tables, "others", ["c"], configured(), {"b": "4"})
    assert tables.uids["usual"] == tables.uids["others"] == tables.settings["table.exec.uid.format"]
    assert len({tables.uids[name] for name in ("usual", "anew", "again")}) == 3


def test_a_source_is_told_how_soon_to_look_and_to_let_go_unless_the_configuration_says_otherwise() -> None:
    tables: Any = Tables()
    read_topics(tables, "requests", ["a"], configured(), {})
    assert "'properties.metadata.max.age.ms' = '2000'" in tables.sql
    assert "'properties.source.reader.close.timeout' = '5000'" in tables.sql
    config = configured(kafka={"flink_settings": {"metadata.max.age.ms": SecretStr("9000")}})
    read_topics(tables, "requests", ["a"], config, {})
    assert tables.sql.count("metadata.max.age.ms") == 1
    assert "'properties.metadata.max.age.ms' = '9000'" in tables.sql


def test_no_setting_can_leave_its_quotes() -> None:
    config = configured(kafka={"flink_settings": {"sasl.jaas.config": SecretStr("user='u'; DROP TABLE x; --")}})
    tables: Any = Tables()
    read_topics(tables, "requests", ["a", "b"], config, {})
    assert "'properties.sasl.jaas.config' = 'user=''u''; DROP TABLE x; --'" in tables.sql
    assert "'topic' = 'a;b'" in tables.sql
    assert tables.sql.count("'") % 2 == 0
