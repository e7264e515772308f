"""How well time-sensitive and user-specific questions are recognised: by rules, and by a classifier beside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_jobs.reuse.eligibility import is_time_sensitive, is_user_specific
from forebay_jobs.reuse.recogniser import Recogniser
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from ..reporting.tables import Table
from ..request_lines import LineError, numbered, parse_object, plain
from ..statistics import Interval, share_interval
from .halves import is_test, text_field

SENTENCES = Path(__file__).with_name("reusable.jsonl")
"""Written for this, before its author had read the rules; English."""
KINDS = ("time", "user")
ANY = "any"
_FOLDS = 5
_STRENGTHS = [0.1, 0.3, 1, 3, 10, 30]
_LEAST_PRECISION = 0.8
"""About that of the rules: a classifier that holds back more for nothing costs more reuse than it prevents errors."""
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
        SentencesError: a half has too few sentences of a kind, or of others.
    """
    sentences = [_sentence(number, line) for number, line in numbered(plain(file))]
    for half in (False, True):
        kinds = [one.kinds for one in sentences if is_test(one.text) is half]
        for kind in KINDS:
            count = sum(kind in one for one in kinds)
            if min(count, len(kinds) - count) < _FOLDS:
                raise SentencesError(
                    f"{count} of the {len(kinds)} sentences of the {'test' if half else 'dev'} half are of the kind"
                    f" {kind}; give at least {_FOLDS} that are and {_FOLDS} that are not"
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


class Evaluation:
    """The ways of recognising, the classifier trained on the dev half."""

    def __init__(self, sentences: Sequence[Sentence], embed: Callable[[Sequence[str]], Vectors] | None) -> None:
        """
        Args:
            embed: unit vectors of texts; None: the rules alone.
        """
        self._test = [one for one in sentences if is_test(one.text)]
        self._embed = embed
        self._classifiers: dict[str, Recogniser] = {}
        if embed is not None:
            dev = [one for one in sentences if not is_test(one.text)]
            vectors = embed([one.text for one in dev])
            self._classifiers = {
                kind: _classifier(vectors, np.array([kind in one.kinds for one in dev])) for kind in KINDS
            }

    def time_sensitive(self, models: list[str], source: str) -> Recogniser:
        """The classifier of the kind that the job has one for, to be kept."""
        return msgspec.structs.replace(self._classifiers["time"], models=models, source=source)

    def recognised(self) -> list[Recognised]:
        """How each way did on the test half."""
        labels = {kind: np.array([kind in one.kinds for one in self._test]) for kind in KINDS}
        return [
            _of(way, kind, _column(flags, kind), _column(labels, kind))
            for way, flags in self._flags([one.text for one in self._test]).items()
            for kind in (*KINDS, ANY)
        ]

    def held_back(self, questions: Sequence[str]) -> dict[str, dict[str, float]]:
        """The share of questions that each way would hold back, by way and kind."""
        return {
            way: {kind: float(_column(flags, kind).mean()) for kind in (*KINDS, ANY)}
            for way, flags in self._flags(questions).items()
        }

    def _flags(self, texts: Sequence[str]) -> dict[str, dict[str, Flags]]:
        by_rules = {kind: np.array([RULES[kind](text) for text in texts]) for kind in KINDS}
        if self._embed is None:
            return {"rules": by_rules}
        vectors = self._embed(texts)
        learned = {kind: model.time_sensitive(vectors) for kind, model in self._classifiers.items()}
        either = {kind: by_rules[kind] | learned[kind] for kind in KINDS}
        return {
            "rules": by_rules,
            "classifier": learned,
            "either of both": either,
            "as the job does": {"time": either["time"], "user": by_rules["user"]},
        }


def _classifier(vectors: Vectors, labels: Flags) -> Recogniser:
    """Logistic regression on the embeddings; all settings are chosen by cross-validation on what it learns from."""
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.model_selection import GridSearchCV, cross_val_predict

    search = GridSearchCV(LogisticRegression(max_iter=2_000), {"C": _STRENGTHS}, scoring="average_precision", cv=_FOLDS)
    model: Any = search.fit(vectors, labels).best_estimator_
    sums = np.asarray(cross_val_predict(search.best_estimator_, vectors, labels, cv=_FOLDS, method="decision_function"))
    least = next((one for one in np.sort(sums) if labels[sums >= one].mean() >= _LEAST_PRECISION), float(sums.max()))
    weights = [round(float(weight), 4) for weight in model.coef_[0]]
    return Recogniser(models=[], weights=weights, bias=float(model.intercept_[0]), least=float(least), source="")


def _column(flags: dict[str, Flags], kind: str) -> Flags:
    """Held back for any reason is what counts in the end."""
    return flags[kind] if kind != ANY else np.logical_or.reduce([flags[one] for one in KINDS])


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


def table(rows: Sequence[Recognised]) -> Table:
    """A row for each way and kind."""
    return Table(
        name="eligibility",
        title=f"What is held back of {rows[0].sentences} sentences of the test half",
        columns=("by", "kind", "held back", "precision", "95 %", "recall", "95 %"),
        rows=[(row.way, row.kind, str(row.held_back), *_share(row.precision), *_share(row.recall)) for row in rows],
    )


def traffic_table(name: str, count: int, shares: dict[str, dict[str, float]]) -> Table:
    """What each way would hold back of other questions."""
    return Table(
        name="traffic",
        title=f"What would be held back of {count:,} questions of {name}",
        columns=("by", *KINDS, ANY),
        rows=[(way, *(f"{by_kind[kind]:.1%}" for kind in (*KINDS, ANY))) for way, by_kind in shares.items()],
    )


def read_questions(file: BinaryIO) -> list[str]:
    """The ``text`` of each line of a file of JSON lines, plain or gzip.

    Raises:
        LineError: a line has none.
        SentencesError: there is no line.
    """
    questions = []
    for number, line in numbered(plain(file)):
        try:
            questions.append(text_field(parse_object(line), "text", "give the question"))
        except RecordError as error:
            raise LineError(number, error) from None
    if not questions:
        raise SentencesError("the file holds no questions")
    return questions


def _share(of: Interval | None) -> tuple[str, str]:
    return ("-", "") if of is None else (f"{of.mean:.1%}", f"{of.low:.1%} to {of.high:.1%}")
