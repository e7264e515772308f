"""How well time-sensitive and user-specific questions are recognised: by rules, and by a classifier beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.eligibility import is_time_sensitive, is_user_specific
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from ..reporting.tables import Table
from ..request_lines import LineError, numbered, parse_object, plain
from ..statistics import Interval, share_interval
from .halves import is_test, text_field

SENTENCES = Path(__file__).with_name("reusable.jsonl")
"""Written for this, before its author had read the rules; English."""
KINDS = ("time", "user")
RULES: dict[str, Callable[[str], bool]] = {"time": is_time_sensitive, "user": is_user_specific}

Vectors = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class SentencesError(ForebayError):
    """A file that is no set of labelled sentences."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A question, and why its answer must not be reused; no kind: it may be."""

    text: str
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Recognised:
    """How one way of recognising did at one kind.

    Attributes:
        precision: share of those held back that should be; None where none is.
        recall: share of those that should be held back that are.
    """

    way: str
    kind: str
    precision: Interval | None
    recall: Interval
    held_back: int
    sentences: int


def read_sentences(file: BinaryIO) -> list[Sentence]:
    """The sentences of a file of JSON lines, plain or gzip: ``text``, and ``kinds``, a list of ``KINDS``.

    Raises:
        LineError: a line cannot be used.
        SentencesError: a kind, or the absence of one, does not occur in a half.
    """
    sentences = [_sentence(number, line) for number, line in numbered(plain(file))]
    for half in (False, True):
        kinds = [one.kinds for one in sentences if is_test(one.text) is half]
        for kind in KINDS:
            if len({kind in one for one in kinds}) < 2:
                raise SentencesError(
                    f"of the {'test' if half else 'dev'} half all or none of the {len(kinds)} sentences are of the kind"
                    f" {kind}; give more of both"
                )
    return sentences


def _sentence(number: int, line: bytes) -> Sentence:
    try:
        values = parse_object(line)
        text = text_field(values, "text", "give the question")
        kinds = values.get("kinds")
        if not isinstance(kinds, list) or not all(kind in KINDS for kind in kinds):
            raise RecordError(
                ErrorCode.INVALID_REQUEST,
                f"is {kinds!r}; give a list of {' and '.join(KINDS)}, or an empty one",
                "kinds",
            )
    except RecordError as error:
        raise LineError(number, error) from None
    return Sentence(text, frozenset(kinds))


def recognised(sentences: Sequence[Sentence], embed: Callable[[Sequence[str]], Vectors] | None) -> list[Recognised]:
    """Judge the rules on the test half, and beside them a classifier that has learned from the dev half.

    Args:
        embed: unit vectors of texts; None: the rules alone.
    """
    test = [one for one in sentences if is_test(one.text)]
    labels = {kind: np.array([kind in one.kinds for one in test]) for kind in KINDS}
    by_rules = {kind: np.array([RULES[kind](one.text) for one in test]) for kind in KINDS}
    ways = {"rules": by_rules}
    if embed is not None:
        dev = [one for one in sentences if not is_test(one.text)]
        learned, asked = embed([one.text for one in dev]), embed([one.text for one in test])
        by_classifier = {
            kind: classified(learned, np.array([kind in one.kinds for one in dev]), asked) for kind in KINDS
        }
        ways["classifier"] = by_classifier
        ways["either of both"] = {kind: by_rules[kind] | by_classifier[kind] for kind in KINDS}
    return [
        _of(way, kind, _column(flags, kind), _column(labels, kind))
        for way, flags in ways.items()
        for kind in (*KINDS, "any")
    ]


def _column(flags: dict[str, Flags], kind: str) -> Flags:
    """Held back for any reason is what counts in the end."""
    return flags[kind] if kind != "any" else np.logical_or.reduce([flags[one] for one in KINDS])


def _of(way: str, kind: str, flags: Flags, labels: Flags) -> Recognised:
    right, held_back = int((flags & labels).sum()), int(flags.sum())
    return Recognised(
        way=way,
        kind=kind,
        precision=share_interval(right, held_back) if held_back else None,
        recall=share_interval(right, int(labels.sum())),
        held_back=held_back,
        sentences=len(labels),
    )


def classified(learned: Vectors, labels: Flags, asked: Vectors) -> Flags:
    """Logistic regression on the embeddings; its strength is chosen by cross-validation on what it learns from."""
    from sklearn.linear_model import LogisticRegressionCV  # a second to import

    model: Any = LogisticRegressionCV(Cs=8, cv=5, scoring="f1", class_weight="balanced", max_iter=2_000)
    return model.fit(learned, labels).predict(asked).astype(np.bool_)


def table(rows: Sequence[Recognised]) -> Table:
    """A row for each way and kind."""
    return Table(
        name="eligibility",
        title=f"What is held back of {rows[0].sentences} sentences of the test half",
        columns=("by", "kind", "held back", "precision", "95 %", "recall", "95 %"),
        rows=[(row.way, row.kind, str(row.held_back), *_share(row.precision), *_share(row.recall)) for row in rows],
    )


def _share(of: Interval | None) -> tuple[str, str]:
    return ("-", "") if of is None else (f"{of.mean:.1%}", f"{of.low:.1%} to {of.high:.1%}")
