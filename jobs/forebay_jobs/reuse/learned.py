"""What a namespace has learned about reuse: sums that fade, kept by several processes together.

Every update of a sum is `sum = factor * sum + amount`. Such updates compose to one of their kind, so all that a process
has done since it last met the shared sums is itself one factor and one amount a sum, and merging is applying it.

The last sum counts updates and never fades. Of two that should be the same the one with more updates knows more: the
other was begun anew, or set back, and is replaced.
"""

import contextlib

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ForebayError

from .neighbourhood import FEATURES

DIMENSIONS = len(FEATURES)
SCORE_BINS = 48
VERSION = 2
"""Rises when the meaning or order of a sum changes."""

Sums = npt.NDArray[np.float64]


def _layout(**lengths: int) -> tuple[dict[str, slice], int]:
    slices, start = {}, 0
    for name, length in lengths.items():
        slices[name] = slice(start, start + length)
        start += length
    return slices, start


_SLICES, _SIZE = _layout(
    information=DIMENSIONS * DIMENSIONS,
    pull=DIMENSIONS,
    audited_wrong=1,
    audited_expected=1,
    demand=SCORE_BINS,
    requests=1,
    balance=1,
    alert=1,
    suspicion=1,
)
INFORMATION, PULL = _SLICES["information"], _SLICES["pull"]
"""Of the labels about the weights: the precision that they add, row by row, and precision times mean."""
AUDITED_WRONG, AUDITED_EXPECTED = _SLICES["audited_wrong"], _SLICES["audited_expected"]
"""Of the audited hits: how many would have been wrong, and how many the model said."""
DEMAND, REQUESTS = _SLICES["demand"], _SLICES["requests"]
"""Expected errors of all that could have been reused, by bin of the score; and of how many requests."""
BALANCE = _SLICES["balance"]
"""Errors that may still be made: granted by requests, spent by hits."""
ALERT = _SLICES["alert"]
"""1 after an alarm, fading."""
SUSPICION = _SLICES["suspicion"]
"""Evidence that what counts as equal has changed."""
MODEL = slice(INFORMATION.start, PULL.stop)
AUDITS = slice(AUDITED_WRONG.start, AUDITED_EXPECTED.stop)
TRAFFIC = slice(DEMAND.start, REQUESTS.stop)

_TOTAL, _PENDING, _FACTOR = range(3)
_UPDATES = -1


class UnreadableState(ForebayError):
    """Bytes that are no sums of this version; what they held has to be learned again."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    version: int
    rows: int
    numbers: bytes


class Learned:
    """The sums, and what was done to them since they were last merged into the shared ones."""

    def __init__(self, size: int = _SIZE) -> None:
        """
        Args:
            size: number of sums.
        """
        self._rows = np.zeros((3, size + 1))
        self._rows[_FACTOR] = 1.0
        self._taken = self._rows[_PENDING:].copy()

    def __getitem__(self, part: slice) -> Sums:
        """The present sums of a part; not to be written to."""
        return self._rows[_TOTAL, part]

    def number(self, part: slice) -> float:
        """The present sum of a part that is one number."""
        return float(self._rows[_TOTAL, part.start])

    def fade(self, part: slice, factor: float) -> None:
        """Multiply the sums of a part."""
        self._rows[:, part] *= factor

    def add(self, part: slice, amount: float | Sums) -> None:
        """Add to the sums of a part."""
        self._rows[:_FACTOR, part] += amount
        self._rows[:_FACTOR, _UPDATES] += 1.0

    def take(self) -> tuple[bytes, bytes]:
        """What was done to the sums since they were last taken, and all of them, as ``merged`` wants it. What is done
        until ``settle`` comes on top."""
        change, whole = _encoded(self._rows[_PENDING:]), _encoded(self._rows[:_PENDING])
        self._taken = self._rows[_PENDING:].copy()
        self._rows[_PENDING] = 0.0
        self._rows[_FACTOR] = 1.0
        return change, whole

    def settle(self, shared: bytes | None) -> None:
        """Follow the shared sums, into which what was taken went.

        Args:
            shared: None where it did not go into them: then it is taken again with the next.

        Raises:
            UnreadableState: the shared bytes are of another version or broken.
        """
        amount, factor = self._rows[_PENDING:]
        if shared is not None:
            self._rows[_TOTAL] = factor * _decoded(shared, 1, len(amount))[0] + amount
        else:
            taken_amount, taken_factor = self._taken
            self._rows[_PENDING] = factor * taken_amount + amount
            self._rows[_FACTOR] = factor * taken_factor


def merged(shared: bytes | None, change: bytes, whole: bytes) -> bytes:
    """The shared sums after a change; to be written in one step that no other process interleaves.

    Args:
        shared: as they are; None where there are none. Where they were lost, or lost and begun anew by a process that
            knew less, what this one knows takes their place, which was all of them a moment ago.

    Raises:
        UnreadableState: they are of another version or broken.
    """
    everything, (amount, factor) = _decoded(whole, 1)[0], _decoded(change, 2)
    if shared is None:
        return whole
    known = _decoded(shared, 1, len(amount))[0]
    if known[_UPDATES] < everything[_UPDATES] - amount[_UPDATES]:
        return whole
    return _encoded((factor * known + amount)[None])


def richest(*kept: bytes | None) -> bytes | None:
    """Of several keepings of the same sums the one that knows most; what cannot be read knows nothing."""
    known: list[tuple[int, bytes]] = []
    for data in kept:
        with contextlib.suppress(UnreadableState):
            if data is not None:
                known.append((updates(data), data))
    return max(known)[1] if known else None


def updates(kept: bytes) -> int:
    """How many updates made the sums.

    Raises:
        UnreadableState: they are of another version or broken.
    """
    return int(_decoded(kept, 1)[0][_UPDATES])


def _encoded(rows: Sums) -> bytes:
    return msgspec.msgpack.encode(_Stored(VERSION, len(rows), rows.astype("<f8").tobytes()))


def _decoded(data: bytes, rows: int, size: int | None = None) -> Sums:
    """``rows`` x ``size`` sums; as many as there are where no size is asked for."""
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except msgspec.MsgspecError as error:
        raise UnreadableState(f"learned reuse state: cannot be read ({error}); delete it to learn anew") from None
    if stored.version != VERSION:
        raise UnreadableState(
            f"learned reuse state: version {stored.version} is not {VERSION}; delete it to learn anew, or run the"
            " release that wrote it"
        )
    cells, rest = divmod(len(stored.numbers), 8)
    if stored.rows != rows or rest or cells % rows or cells != rows * (size or cells // rows):
        raise UnreadableState("learned reuse state: has the wrong length; delete it to learn anew")
    numbers = np.frombuffer(stored.numbers, dtype="<f8").reshape(rows, cells // rows)
    if not np.isfinite(numbers).all():
        raise UnreadableState("learned reuse state: holds what is no number; delete it to learn anew")
    return numbers
