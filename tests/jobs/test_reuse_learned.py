"""What processes learn apart comes together, and survives as bytes."""

import msgspec
import numpy as np
import pytest
from forebay_jobs.reuse.learned import BALANCE, MODEL, TRAFFIC, Learned, UnreadableState
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.doubles import SharedSums

STEPS = st.lists(st.tuples(st.sampled_from([MODEL, TRAFFIC, BALANCE]), st.floats(0, 2), st.floats(-5, 5)), max_size=8)


def take(learned: Learned, steps: list[tuple[slice, float, float]]) -> None:
    for part, factor, amount in steps:
        learned.fade(part, factor)
        learned.add(part, amount)


@given(STEPS, STEPS, STEPS)
def test_syncing_is_as_if_one_process_had_done_it_all(
    first: list[tuple[slice, float, float]],
    second: list[tuple[slice, float, float]],
    third: list[tuple[slice, float, float]],
) -> None:
    store, one, other, alone = SharedSums(), Learned(), Learned(), Learned()
    take(one, first)
    take(other, second)
    store.sync(one)
    store.sync(other)
    take(one, third)
    store.sync(one)
    take(alone, [*first, *second, *third])
    whole = slice(None)
    np.testing.assert_allclose(one[whole], alone[whole], atol=1e-9)
    store.sync(other)
    np.testing.assert_array_equal(other[whole], one[whole])


def test_what_could_not_be_merged_goes_with_the_next() -> None:
    store, learned = SharedSums(), Learned()
    learned.add(BALANCE, 1.0)
    store.away = True
    with pytest.raises(ConnectionError):
        store.sync(learned)
    store.away = False
    learned.add(BALANCE, 2.0)
    store.sync(learned)
    assert learned.number(BALANCE) == 3.0
    assert store.shared is not None
    later = Learned()
    store.sync(later)
    assert later.number(BALANCE) == 3.0


def test_what_the_store_has_lost_is_put_back() -> None:
    store, learned = SharedSums(), Learned()
    learned.add(BALANCE, 1.0)
    store.sync(learned)
    store.shared = None
    learned.add(BALANCE, 2.0)
    store.sync(learned)
    later = Learned()
    store.sync(later)
    assert later.number(BALANCE) == learned.number(BALANCE) == 3.0


@pytest.mark.parametrize("position", [0, 2])
def test_another_version_or_a_cut_state_is_refused_with_the_mend(position: int) -> None:
    store = SharedSums()
    store.sync(Learned())
    fields = msgspec.msgpack.decode(store.shared or b"")
    fields[position] = fields[position] + 1 if position == 0 else fields[position][:-8]
    store.shared = msgspec.msgpack.encode(fields)
    with pytest.raises(UnreadableState, match="learn anew"):
        store.sync(Learned())


@pytest.mark.parametrize("data", [b"", b"nonsense", msgspec.msgpack.encode([1, 1, b"\xff" * 8])])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    store = SharedSums()
    store.shared = data
    with pytest.raises(UnreadableState):
        store.sync(Learned())


def test_a_number_that_is_none_spoils_nothing_shared() -> None:
    learned, store = Learned(), SharedSums()
    learned.add(BALANCE, float("nan"))
    with pytest.raises(UnreadableState, match="no number"):
        store.sync(learned)
    assert store.shared is None
