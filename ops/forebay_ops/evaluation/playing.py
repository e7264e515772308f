"""Plays a stream to a policy as production would: one pass, the cache empty at first, no label before its time.

A question is asked; the policy reuses the nearest cached answer, or has it generated. Only a generated answer is
cached, and only beside a generated answer can a judge say whether the nearest cached one would have been right: that is
the one label there is, and it comes when the answer does, or later.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.neighbourhood import NEAREST

from .streams import Stream

Flags = npt.NDArray[np.bool_]
Order = npt.NDArray[np.int64]
_SAID_EVERY = 4_096


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a judge and the world are like.

    Attributes:
        label_delay: requests that pass until a label is known. The answer itself is cached at once.
        judge_noise: share of the labels that are the opposite of the truth, in [0, 1).
        change_at: place in the stream, in (0, 1), from which half of what counted as equal no longer does: each
            class falls into two at random. None: nothing changes.
    """

    label_delay: int = 0
    judge_noise: float = 0.0
    change_at: float | None = None


class Equality:
    """Which answers are right for which questions, by time."""

    def __init__(self, stream: Stream, conditions: Conditions, seed: int) -> None:
        halves = np.random.default_rng([seed, 1]).integers(0, 2, len(stream))
        self._before = stream.classes
        self._after = stream.classes.astype(np.int64) * 2 + halves
        share = conditions.change_at
        self.changes_at = len(stream) if share is None else int(len(stream) * share)

    def right(self, step: int, question: int, entry: int) -> bool:
        """Whether the answer to ``entry`` is right for ``question`` at a step of the stream."""
        classes = self._before if step < self.changes_at else self._after
        return bool(classes[question] == classes[entry])


@dataclass(frozen=True, slots=True)
class Near:
    """A cached question: its place in the file, and its cosine to the one that is asked."""

    place: int
    similarity: float


class Player(Protocol):
    """A policy in a stream.

    Attributes:
        keeps_all: whether every generated answer is cached; else only those whose neighbour turned out wrong.
    """

    keeps_all: bool

    def ask(self, place: int, near: Sequence[Near]) -> bool:
        """Whether the answer of the first of ``near`` is reused; called once for every question. Where ``near`` is
        empty it is not."""
        ...

    def label(self, place: int, right: bool) -> bool:
        """The first of the ``near`` that ``ask`` was given would have been right, or not; whether that was of use."""
        ...


class Keeper:
    """What the cache holds of the answers that a player would have it hold: this one, all of them."""

    def asked(self, place: int) -> None:
        """A question is asked; called for every one."""

    def admits(self, step: int, place: int) -> bool:
        """Whether the answer to the question just asked is cached; called where it was generated."""
        return True

    def reused(self, place: int) -> None:
        """A cached answer was given again."""

    def drops(self, step: int) -> Sequence[int]:
        """The cached questions that go now; called after every step."""
        return ()


KEEPS_ALL = Keeper()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of one pass.

    Attributes:
        reused, wrong: by step; wrong ones are among the reused.
        labels: that were used.
        cached: questions in the cache at the end.
    """

    reused: Flags
    wrong: Flags
    labels: int
    cached: int = 0

    @property
    def hits(self) -> float:
        """Share of all questions."""
        return float(self.reused.mean())

    @property
    def errors(self) -> float:
        """Share of all questions that reuse answered wrongly."""
        return float(self.wrong.mean())


def order_of(stream: Stream, seed: int | None) -> Order:
    """The places of a stream in file order, or shuffled by a seed."""
    return np.arange(len(stream)) if seed is None else np.random.default_rng(seed).permutation(len(stream))


def play(
    stream: Stream,
    order: Order,
    player: Player,
    equality: Equality,
    conditions: Conditions,
    seed: int,
    say: Callable[[int], None],
    keeper: Keeper = KEEPS_ALL,
) -> Played:
    """Play a stream to a policy.

    Args:
        seed: of the judge's errors.
        say: told now and then how many questions were asked.
        keeper: has the last word on what is cached.
    """
    count = len(order)
    reused, wrong = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    cached = np.zeros(count, dtype=np.bool_)
    mistaken = np.random.default_rng([seed, 2]).random(count) < conditions.judge_noise
    due: deque[tuple[int, int, bool]] = deque()
    admitted = np.zeros(count, dtype=np.bool_)
    labels = 0

    def tell(step: int) -> int:
        used = 0
        while due and due[0][0] <= step:
            _, place, right = due.popleft()
            used += player.label(place, right)
            cached[place] |= bool(admitted[place]) and (player.keeps_all or not right)
        return used

    for step, place in enumerate(order.tolist()):
        if not step % _SAID_EVERY:
            say(step)
        near = _nearest(stream, place, cached)
        hit = player.ask(place, near) and bool(near)
        keeper.asked(place)
        admitted[place] = not hit and keeper.admits(step, place)
        if not near:
            cached[place] = admitted[place]
        elif hit:
            keeper.reused(near[0].place)
            reused[step] = True
            wrong[step] = not equality.right(step, place, near[0].place)
        else:
            right = equality.right(step, place, near[0].place) ^ bool(mistaken[step])
            cached[place] = player.keeps_all and admitted[place]
            due.append((step + conditions.label_delay, place, right))
        labels += tell(step)
        for dropped in keeper.drops(step):
            cached[dropped] = False
    return Played(reused, wrong, labels, int(cached.sum()))


def _nearest(stream: Stream, place: int, cached: Flags) -> list[Near]:
    row = stream.near[place]
    found = np.flatnonzero(cached[row])[:NEAREST]
    return [Near(int(row[one]), float(stream.similarities[place, one])) for one in found]
