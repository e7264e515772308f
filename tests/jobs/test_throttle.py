"""Batch requests are taken at a limited rate, a lower one while interactive requests wait."""

from collections.abc import Callable

import pytest
from forebay_jobs.throttle import BUSY_FOR_S, CROWDED_FOR_S, CROWDED_RATE_PER_S, BatchThrottle, Pressure
from forebay_schemas.sections import BatchConfig


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.longest_nap_s = 0.0
        self.each_nap: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.longest_nap_s = max(self.longest_nap_s, seconds)
        self.now_s += seconds
        self.each_nap()


class Rig:
    def __init__(self, busy_rate_per_s: float = 20, idle_rate_per_s: float = 2_000) -> None:
        self.clock = Clock()
        self.pressure = Pressure(self.clock)
        settings = BatchConfig(busy_rate_per_s=busy_rate_per_s, idle_rate_per_s=idle_rate_per_s)
        self.throttle = BatchThrottle(settings, self.pressure, self.clock, self.clock.sleep)

    def taken_in(self, seconds: float, *, busy: bool) -> int:
        """How many batch requests are taken in some time."""
        until_s, taken = self.clock.now_s + seconds, 0
        while self.clock.now_s < until_s:
            if busy:
                self.pressure.note_interactive()
            self.throttle.wait()
            taken += 1
        return taken


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_request_is_taken_at_once(rig: Rig) -> None:
    before_s = rig.clock.now_s
    rig.throttle.wait()
    assert rig.clock.now_s == before_s


def test_without_interactive_requests_the_idle_rate_holds(rig: Rig) -> None:
    assert rig.taken_in(10, busy=False) == pytest.approx(20_000, rel=0.01)


def test_while_interactive_requests_wait_the_busy_rate_holds(rig: Rig) -> None:
    assert rig.taken_in(10, busy=True) == pytest.approx(200, rel=0.02)


def test_a_pause_saves_up_no_rate(rig: Rig) -> None:
    rig.taken_in(1, busy=True)
    rig.clock.now_s += 60
    assert rig.taken_in(1, busy=True) < 25


def test_when_the_pressure_ends_so_does_the_wait_of_its_rate() -> None:
    rig = Rig(busy_rate_per_s=0.01)  # a hundred seconds between two
    rig.pressure.note_interactive()
    rig.throttle.wait()
    began_s = rig.clock.now_s
    rig.throttle.wait()
    assert rig.clock.now_s - began_s == pytest.approx(BUSY_FOR_S, abs=0.06)
    assert rig.clock.longest_nap_s <= 0.05
    assert rig.taken_in(1, busy=False) > 1_900


def test_pressure_lasts_a_moment_after_the_last_interactive_request(rig: Rig) -> None:
    assert not rig.pressure.busy
    rig.pressure.note_interactive()
    assert rig.pressure.busy
    rig.clock.now_s += BUSY_FOR_S
    assert not rig.pressure.busy


@pytest.mark.parametrize("busy_rate_per_s", [0.5, 20])
def test_while_the_line_of_questions_is_long_hardly_any_is_taken_in(busy_rate_per_s: float) -> None:
    rig = Rig(busy_rate_per_s)
    rig.clock.each_nap = rig.pressure.note_crowded
    rig.pressure.note_crowded()
    assert rig.taken_in(10, busy=True) == pytest.approx(10 * min(busy_rate_per_s, CROWDED_RATE_PER_S), rel=0.1, abs=1)


def test_when_the_line_is_short_again_the_idle_rate_holds(rig: Rig) -> None:
    rig.pressure.note_crowded()
    rig.taken_in(CROWDED_FOR_S, busy=False)
    assert rig.taken_in(2, busy=False) > 3_000
