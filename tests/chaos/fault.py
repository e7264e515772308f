"""What a fault is."""

from collections.abc import Callable
from dataclasses import dataclass

from .scene import Scene


def at_once(_: Scene) -> bool:
    """For faults that are over when they are injected."""
    return True


def never() -> None:
    """For what can be broken everywhere."""


def nothing(_: Scene) -> None:
    """For what does not have to be done."""


@dataclass(frozen=True)
class Fault:
    """Something that is done to the stack when it is in the state worth breaking.

    Attributes:
        name: as the table shows it.
        when: whether the state is reached; asked again and again.
        inject: breaks it.
        until: whether the fault has lasted long enough, by what is observed of it.
        heal: takes it back, where nothing does by itself.
        within_s: recovery takes no longer, from the injection on.
        after: done when it is over: makes the stack what it was.
        impossible: why it cannot be injected on this machine, or None.
    """

    name: str
    when: Callable[[Scene], object]
    inject: Callable[[Scene], object]
    until: Callable[[Scene], object] = at_once
    heal: Callable[[Scene], object] = nothing
    within_s: float = 30.0
    after: Callable[[Scene], object] = nothing
    impossible: Callable[[], str | None] = never
