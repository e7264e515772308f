"""Which flight a request belongs to, and who waits for one."""

from collections.abc import Iterator, Sequence

from forebay_schemas.records import Lane

from .desk_state import DeskState
from .messages import Arrival, Asker, Flight


def flights_to_join(arrival: Arrival) -> Sequence[str]:
    """Where an equal request may be in flight: an interactive one never waits on a batch leader."""
    if not arrival.joinable:
        return ()
    lanes = (Lane.INTERACTIVE,) if arrival.asker.lane is Lane.INTERACTIVE else (Lane.INTERACTIVE, Lane.BATCH)
    return [_shared_key(arrival, lane) for lane in lanes]


def flight_to_lead(arrival: Arrival) -> str:
    """The key of the flight that a request leads where it finds none to join."""
    return _shared_key(arrival, arrival.asker.lane) if arrival.joinable else f"!{arrival.asker.name}"


def same_request(one: Asker, other: Asker) -> bool:
    """Whether both are one request, read again or published again."""
    return one.name == other.name


def waiters(state: DeskState, key: str, flight: Flight) -> Iterator[tuple[int, Asker]]:
    """Those who joined and have not left, by their numbers, first come first."""
    for number in range(flight.waiters):
        asker = state.waiter(key, number)
        if asker is not None:
            yield number, asker


def _shared_key(arrival: Arrival, lane: Lane) -> str:
    # Tier bounds and time to live do not make requests unequal, but an answer outside them must not be waited for.
    limits = (arrival.asker.min_tier or "", arrival.asker.max_tier or "", str(arrival.ttl_s or ""))
    return ":".join((arrival.digest, lane, *limits))
