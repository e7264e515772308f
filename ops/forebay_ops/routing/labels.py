"""Labelled prompts: which tiers' answers were good, from lines of JSON."""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from ..request_lines import LineError, numbered, parse_object, plain

SUFFIX = "_correct"
FOLDS = 5
LEAST_OF_A_CLASS = 20
"""Good answers of a tier, and bad ones, below which five folds have too few to learn anything from."""
_MOST_REPEATED = 0.1
"""Share of repeated lines above which the file is no sample of prompts."""

Right = npt.NDArray[np.float64]


class LabelsError(ForebayError):
    """A file from which no router can be learned."""


@dataclass(frozen=True)
class Labels:
    """Prompts and whose answers to them were good.

    Attributes:
        tiers: from the smallest to the largest.
        right: 1 where the tier's answer was good, 0 where not, NaN where nobody knows; a row for each prompt.
        weight: for how many answers each of these labels stands, at least 1; 1 where there is none.
        datasets: of each prompt where it comes from; empty where the file does not say.
        repeated: lines left out because an equal one stands before.
    """

    prompts: list[str]
    tiers: list[str]
    right: Right
    weight: Right
    datasets: list[str]
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def folds(self) -> npt.NDArray[np.int64]:
        """Of each prompt its fold, by a hash of it: equal ones are never on both sides."""
        return np.array([int.from_bytes(_hash(prompt)[1:3], "big") % FOLDS for prompt in self.prompts])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of prompts and labels."""
        whole = hashlib.sha256("\n".join([*self.tiers, *self.prompts]).encode())
        whole.update(self.right.tobytes())
        return whole.hexdigest()


def read_labels(file: BinaryIO) -> Labels:
    """The labels of a file, plain or gzip: ``prompt``, and ``<tier>_correct`` of at least two tiers, true, false or
    null; the columns of the first line hold, from the smallest tier to the largest. ``dataset`` may say where a prompt
    comes from; other columns are passed over. Equal lines count once.

    Raises:
        LineError: a line cannot be used.
        LabelsError: the file as a whole cannot be learned from.
    """
    rows: dict[tuple[str, str, tuple[float, ...]], None] = {}
    tiers: list[str] = []
    lines = 0
    for number, line in numbered(plain(file)):
        lines += 1
        try:
            values = parse_object(line)
            tiers = tiers or _tiers(values)
            rows[_text(values, "dataset", ""), _text(values, "prompt"), _labels(values, tiers)] = None
        except RecordError as error:
            raise LineError(number, error) from None
    right = np.array([labels for *_, labels in rows]).reshape(len(rows), len(tiers))
    labels = Labels(
        prompts=[prompt for _, prompt, _ in rows],
        tiers=tiers,
        right=right,
        weight=np.ones_like(right),
        datasets=[dataset for dataset, *_ in rows],
        repeated=lines - len(rows),
    )
    _check(labels, lines)
    return labels


def _tiers(values: dict[str, Any]) -> list[str]:
    tiers = [name.removesuffix(SUFFIX) for name in values if name.endswith(SUFFIX) and name != SUFFIX]
    if len(tiers) < 2:
        raise RecordError(
            ErrorCode.INVALID_REQUEST,
            f"{len(tiers)} such columns; give one for each of at least two tiers, such as small{SUFFIX} and"
            f" large{SUFFIX}",
            f"<tier>{SUFFIX}",
        )
    return tiers


def _text(values: dict[str, Any], name: str, otherwise: str | None = None) -> str:
    value = values.get(name, otherwise)
    if not isinstance(value, str) or (otherwise is None and not value.strip()):
        raise RecordError(ErrorCode.INVALID_REQUEST, "is absent or no text; give it", name)
    return value


def _labels(values: dict[str, Any], tiers: list[str]) -> tuple[float, ...]:
    return tuple(_label(values, tier + SUFFIX) for tier in tiers)


def _label(values: dict[str, Any], name: str) -> float:
    if name not in values:
        raise RecordError(ErrorCode.INVALID_REQUEST, "is missing; give true, false, or null if unknown", name)
    value = values[name]
    if value is None:
        return math.nan
    if value not in (0, 1):  # True and False are
        raise RecordError(ErrorCode.INVALID_REQUEST, f"is {value!r}; give true, false, or null if unknown", name)
    return float(value)


def _check(labels: Labels, lines: int) -> None:
    if not lines:
        raise LabelsError("the file has no labels; give a line of JSON for each prompt")
    if labels.repeated > _MOST_REPEATED * lines:
        raise LabelsError(
            f"prompt: {labels.repeated:,} of {lines:,} lines repeat an earlier one; give each prompt once, or what is"
            " measured on prompts left out is not"
        )
    for name, column in zip(labels.tiers, labels.right.T, strict=True):
        counts = Counter(column[~np.isnan(column)].tolist())
        if min(counts[0.0], counts[1.0]) < LEAST_OF_A_CLASS:
            raise LabelsError(
                f"{name}{SUFFIX}: {counts[1.0]:,} good and {counts[0.0]:,} bad answers; at least {LEAST_OF_A_CLASS}"
                " of each are needed to tell them apart"
            )


def _hash(prompt: str) -> bytes:
    return hashlib.sha256(prompt.encode()).digest()
