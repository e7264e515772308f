"""Which flight a request belongs to, what its task says of it, and who waits for one."""

from collections.abc import Iterator, Sequence

import msgspec
from forebay_schemas.records import Lane

from .caches.epochs import fingerprint
from .desk_state import DeskState
from .messages import Arrival, Asker, Flight, Place

_UNKNOWN = "\x1d"
"""Ends what a task says that was made while its arm was not known: names hold no control characters."""


def flights_to_join(arrival: Arrival) -> Sequence[str]:
    """Where an equal request may be in flight."""
    return [_shared_key(arrival, lane) for lane in lanes_to_join(arrival.asker.lane)] if arrival.joinable else ()


def lanes_to_join(lane: Lane) -> Sequence[Lane]:
    """The lanes on whose flights a request may wait: an interactive one never waits on a batch leader."""
    return (Lane.INTERACTIVE,) if lane is Lane.INTERACTIVE else (Lane.INTERACTIVE, Lane.BATCH)


def flight_to_lead(arrival: Arrival) -> str:
    """The key of the flight that a request leads where it finds none to join."""
    if arrival.joinable:
        return _shared_key(arrival, arrival.asker.lane)
    own = f"!{arrival.asker.name}"
    return f"{own}:{_shared_key(arrival, arrival.asker.lane)}" if arrival.keep else own


def told(key: str, known: bool) -> str:
    """What a flight's task, and so its result, says: by it a result is recognised that was begun under other epochs or
    in another arm than its request waits under now, though its task has the same id."""
    return key if known else key + _UNKNOWN


def flight_told(flight_key: str) -> str:
    """The key of the flight in what a result says."""
    return flight_key.removesuffix(_UNKNOWN)


def lead(state: DeskState, key: str, flight: Flight) -> None:
    """Put a flight with a new leader."""
    state.put_flight(key, flight)
    state.put_place(flight.leader.asker.name, Place(flight=key))


def join(state: DeskState, key: str, flight: Flight, asker: Asker) -> Flight:
    """Let somebody wait for a flight; the flight, which is still to be put."""
    state.put_waiter(key, flight.waiters, asker)
    state.put_place(asker.name, Place(flight=key, number=flight.waiters))
    return msgspec.structs.replace(flight, waiters=flight.waiters + 1)


def leave(state: DeskState, key: str, number: int, asker: Asker) -> None:
    """Let somebody who joined wait no longer."""
    state.drop_waiter(key, number)
    state.drop_place(asker.name)


def release(state: DeskState, key: str, flight: Flight) -> None:
    """Let nobody wait for a flight any more, neither its leader nor those who joined."""
    state.drop_place(flight.leader.asker.name)
    for number, asker in waiters(state, key, flight):
        leave(state, key, number, asker)


def waiting(state: DeskState, name: str) -> tuple[Place, Flight, Asker] | None:
    """Where the request of a name waits for its answer, in which flight, and who it is; None where it does not."""
    place = state.place(name)
    flight = state.flight(place.flight) if place else None
    if place is None or flight is None:
        return None
    asker = flight.leader.asker if place.number is None else state.waiter(place.flight, place.number)
    return (place, flight, asker) if asker is not None and asker.name == name else None


def waiters(state: DeskState, key: str, flight: Flight) -> Iterator[tuple[int, Asker]]:
    """Those who joined and have not left, by their numbers, first come first."""
    for number in range(flight.waiters):
        asker = state.waiter(key, number)
        if asker is not None:
            yield number, asker


def _shared_key(arrival: Arrival, lane: Lane) -> str:
    # Tier bounds and time to live do not make requests unequal, but an answer outside them must not be waited for.
    limits = (arrival.asker.min_tier or "", arrival.asker.max_tier or "", str(arrival.ttl_s or ""))
    # Nor do epochs, but whoever asks after an invalidation must not get what was begun before it.
    return ":".join((arrival.digest, lane, *limits, fingerprint(arrival.epochs)))
