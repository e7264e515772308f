"""What processes learn apart comes together, and survives as bytes."""

import msgspec
import numpy as np
import pytest
from forebay_jobs.reuse.learned import BALANCE, MODEL, TRAFFIC, Learned, UnreadableState, merged
from hypothesis import given
from hypothesis import strategies as st

STEPS = st.lists(st.tuples(st.sampled_from([MODEL, TRAFFIC, BALANCE]), st.floats(0, 2), st.floats(-5, 5)), max_size=8)


class Store:
    """What a shared store has to do: apply one change at a time."""

    def __init__(self) -> None:
        self.shared: bytes | None = None

    def merge(self, change: bytes, whole: bytes) -> bytes:
        self.shared = merged(self.shared, change, whole)
        return self.shared


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
    store, one, other, alone = Store(), Learned(), Learned(), Learned()
    take(one, first)
    take(other, second)
    one.sync(store.merge)
    other.sync(store.merge)
    take(one, third)
    one.sync(store.merge)
    take(alone, [*first, *second, *third])
    whole = slice(None)
    np.testing.assert_allclose(one[whole], alone[whole], atol=1e-9)
    other.sync(store.merge)
    np.testing.assert_array_equal(other[whole], one[whole])


def test_what_could_not_be_merged_goes_with_the_next() -> None:
    store, learned = Store(), Learned()
    learned.add(BALANCE, 1.0)

    def broken(change: bytes, whole: bytes) -> bytes:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        learned.sync(broken)
    learned.add(BALANCE, 2.0)
    learned.sync(store.merge)
    assert learned.number(BALANCE) == 3.0
    assert store.shared is not None
    later = Learned()
    later.sync(store.merge)
    assert later.number(BALANCE) == 3.0


def test_what_the_store_has_lost_is_put_back() -> None:
    store, learned = Store(), Learned()
    learned.add(BALANCE, 1.0)
    learned.sync(store.merge)
    store.shared = None
    learned.add(BALANCE, 2.0)
    learned.sync(store.merge)
    later = Learned()
    later.sync(store.merge)
    assert later.number(BALANCE) == learned.number(BALANCE) == 3.0


@pytest.mark.parametrize("position", [0, 2])
def test_another_version_or_a_cut_state_is_refused_with_the_mend(position: int) -> None:
    store = Store()
    Learned().sync(store.merge)
    fields = msgspec.msgpack.decode(store.shared or b"")
    fields[position] = fields[position] + 1 if position == 0 else fields[position][:-8]
    store.shared = msgspec.msgpack.encode(fields)
    with pytest.raises(UnreadableState, match="learn anew"):
        Learned().sync(store.merge)


@pytest.mark.parametrize("data", [b"", b"nonsense", msgspec.msgpack.encode([1, 1, b"\xff" * 8])])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    store = Store()
    store.shared = data
    with pytest.raises(UnreadableState):
        Learned().sync(store.merge)


def test_a_number_that_is_none_spoils_nothing_shared() -> None:
    learned, store = Learned(), Store()
    learned.add(BALANCE, float("nan"))
    with pytest.raises(UnreadableState, match="no number"):
        learned.sync(store.merge)
    assert store.shared is None
