"""A store that fails is left alone for a while, and used again when it answers."""

import logging

import pytest
from forebay_jobs.caches.guard import StoreGuard

from tests.jobs.doubles import metrics


class Store:
    """A store that counts its calls, with a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.calls = 0
        self.failure: BaseException | None = None
        self.metrics = metrics()
        self.guard = StoreGuard("redis", 1_000, self.metrics, lambda: self.now_s)

    def answer(self) -> str:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        return "answer"

    def ask(self) -> str:
        return self.guard.call(self.answer, "without")

    def values(self) -> tuple[float, float]:
        return (
            self.metrics.store_up.labels("redis")._value.get(),
            self.metrics.store_errors.labels("redis")._value.get(),
        )


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_store_that_answers_is_asked_each_time(store: Store) -> None:
    assert [store.ask(), store.ask()] == ["answer", "answer"]
    assert store.values() == (1, 0)


@pytest.mark.parametrize("failure", [TimeoutError(), ConnectionError(), ValueError(), AssertionError(), MemoryError()])
def test_a_store_that_fails_in_any_way_is_left_alone_for_its_time(store: Store, failure: Exception) -> None:
    store.failure = failure
    assert store.ask() == "without"
    store.now_s += 0.999
    assert store.ask() == "without"
    assert store.calls == 1
    store.now_s += 0.001
    assert store.ask() == "without"
    assert store.calls == 2
    assert store.values() == (0, 2)


def test_a_store_that_answers_again_is_used_again(store: Store) -> None:
    store.failure = TimeoutError()
    store.ask()
    store.failure = None
    store.now_s += 1
    assert [store.ask(), store.ask()] == ["answer", "answer"]
    assert store.calls == 3
    assert store.values() == (1, 1)


def test_the_log_tells_of_the_change_and_not_of_each_failure(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for failure in (TimeoutError("slow"), TimeoutError("slow"), None, None):
            store.failure = failure
            store.ask()
            store.now_s += 1
    assert [record.message for record in caplog.records] == [
        "redis does not answer, going on without it (TimeoutError: slow)",
        "redis answers again",
    ]


def test_a_panic_of_a_library_is_a_failure_and_a_wish_to_end_is_not(store: Store) -> None:
    store.failure = type("PanicException", (BaseException,), {})("index out of bounds")  # as pyo3 makes it
    assert store.ask() == "without"
    store.now_s += 1
    store.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        store.ask()
