"""How often each way of judging two answers errs, on pairs that are known to agree or not."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from forebay_jobs.judging.equality import equal_json
from forebay_jobs.judging.judge import Agreement, Pair, by_meaning, by_words
from forebay_jobs.judging.similarity import Embeds, similarities
from forebay_schemas.categories import JudgeConfig
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from ..models.answering import spread
from ..reporting.tables import Table
from ..request_lines import LineError, numbered, parse_object, plain
from ..statistics import Interval, share_interval
from .halves import is_test, text_field

ANSWER_PAIRS = Path(__file__).with_name("answer_pairs.jsonl")
"""Written for this by the author of the judge, in English: a third agree, most of the others differ in a detail."""
_EMBEDDED_AT_ONCE = 64
_GRID = [step / 100 for step in range(101)]

Say = Callable[[str], None]


class PairsError(ForebayError):
    """A file that is no set of labelled pairs."""


@dataclass(frozen=True, slots=True)
class Known:
    """Two answers of which it is known whether they agree."""

    question: str
    one: str
    other: str
    equal: bool

    @property
    def is_test(self) -> bool:
        """Pairs of one question are in one half."""
        return is_test(self.question or self.one)


@dataclass(frozen=True, slots=True)
class Judged:
    """How one way of judging did.

    Attributes:
        equal_decided: share of the pairs that agree of which it says anything.
        different_decided: likewise of the others.
        false_equal: share of the pairs that differ which it calls equal.
        false_different: share of the pairs that agree which it calls different.
        wrong: share of what it decides; None where that is nothing.
        pair_ms: time a pair, mean; None where it was not measured.
    """

    way: str
    equal_decided: float
    different_decided: float
    false_equal: Interval
    false_different: Interval
    wrong: float | None
    pair_ms: float | None


def read_pairs(file: BinaryIO) -> list[Known]:
    """The pairs of a file of JSON lines, plain or gzip: ``a``, ``b``, ``equal`` (0 or 1), and maybe ``question``.

    Raises:
        LineError: a line cannot be used.
        PairsError: a half has no pairs that agree, or none that do not.
    """
    pairs = [_pair(number, line) for number, line in numbered(plain(file))]
    _check_halves(pairs)
    return pairs


def sample(pairs: Sequence[Known], at_most: int) -> list[Known]:
    """At most so many pairs.

    Raises:
        PairsError: a half has too few.
    """
    taken = spread(pairs, at_most)
    _check_halves(taken)
    return taken


def _check_halves(pairs: Sequence[Known]) -> None:
    for half in (False, True):
        found = [pair.equal for pair in pairs if pair.is_test is half]
        if len(set(found)) < 2:
            raise PairsError(
                f"of the {'test' if half else 'dev'} half all or none of the {len(found)} pairs agree; give more"
            )


def _pair(number: int, line: bytes) -> Known:
    try:
        values = parse_object(line)
        one, other = (text_field(values, name, "give both answers") for name in ("a", "b"))
        equal, question = values.get("equal"), values.get("question", "")
        if equal not in (0, 1):
            raise RecordError(ErrorCode.INVALID_REQUEST, f"is {equal!r}; give 1 where they agree, else 0", "equal")
        if not isinstance(question, str):
            raise RecordError(ErrorCode.INVALID_REQUEST, "is no text; give the question or leave it out", "question")
    except RecordError as error:
        raise LineError(number, error) from None
    return Known(question, one, other, bool(equal))


class Evaluation:
    """Judges pairs in every way, with what all of them share, the embeddings, computed once."""

    def __init__(self, pairs: Sequence[Known], embedder: Embeds, say: Say) -> None:
        self._pairs = [Pair(category="", one=known.one, other=known.other) for known in pairs]
        self._equal = [known.equal for known in pairs]
        self._test = [known.is_test for known in pairs]
        self._scores: list[float | None] = []
        started = time.perf_counter()
        for start in range(0, len(pairs), _EMBEDDED_AT_ONCE):
            say(f"{start:,} of {len(pairs):,} pairs embedded")
            batch = self._pairs[start : start + _EMBEDDED_AT_ONCE]
            self._scores += similarities(embedder, [(pair.one, pair.other) for pair in batch])
        self._embedding_ms = (time.perf_counter() - started) * 1000 / len(pairs)

    def chosen(self, judge: JudgeConfig, error: float) -> JudgeConfig:
        """The settings with thresholds at which the cosine misjudges this share of either kind on the dev half."""
        always_equal = judge.model_copy(update={"equal_from": -1.0, "different_below": -1.0})
        dev = [place for place, test in enumerate(self._test) if not test]
        open_ = [place for place in dev if by_words(self._pairs[place], judge) is None]
        alike = [
            self._scores[place] or 0.0
            for place in open_
            if not self._equal[place] and by_meaning(self._pairs[place], self._scores[place], always_equal).equal
        ]
        apart = [self._scores[place] or 0.0 for place in open_ if self._equal[place]]
        agreeing = sum(self._equal[place] for place in dev)
        may_be_equal, may_be_different = error * (len(dev) - agreeing), error * agreeing
        equal_from = next((one for one in _GRID if sum(score >= one for score in alike) <= may_be_equal), 1.0)
        below = [one for one in _GRID if one <= equal_from and sum(score < one for score in apart) <= may_be_different]
        return judge.model_copy(update={"equal_from": equal_from, "different_below": max(below)})

    def judged(self, judge: JudgeConfig, way: str) -> Judged:
        """How the test half is judged by settings."""
        started = time.perf_counter()
        words = [by_words(pair, judge) for pair in self._pairs]
        pair_ms = (time.perf_counter() - started) * 1000 / len(words)
        found = [
            agreement or by_meaning(pair, score, judge)
            for agreement, pair, score in zip(words, self._pairs, self._scores, strict=True)
        ]
        embedded = sum(agreement is None for agreement in words) / len(words)
        return self._of(way, [one.equal for one in found], pair_ms + embedded * self._embedding_ms)

    def cosine_alone(self, judge: JudgeConfig) -> Judged:
        """What the thresholds would do without anything else."""
        said = [
            None if score is None else True if score >= judge.equal_from else False if score < judge.different_below
            else None
            for score in self._scores
        ]  # fmt: skip
        return self._of("cosine alone", said, self._embedding_ms)

    def with_model(self, judge: JudgeConfig, verdicts: Sequence[bool | None]) -> list[Judged]:
        """A judging model's verdicts on the test half, in order: on all of it, and on what the settings leave open."""
        told = iter(verdicts)
        by_model = [next(told) if test else None for test in self._test]
        found: list[Agreement] = [
            by_words(pair, judge) or by_meaning(pair, score, judge)
            for pair, score in zip(self._pairs, self._scores, strict=True)
        ]
        both = [model if one.equal is None else one.equal for one, model in zip(found, by_model, strict=True)]
        return [self._of("model alone", by_model, None), self._of("model, after auto", both, None)]

    @property
    def has_json(self) -> bool:
        """Whether any pair can be judged by its values."""
        return any(equal_json(pair.one, pair.other) is not None for pair in self._pairs)

    def _of(self, way: str, said: Sequence[bool | None], pair_ms: float | None) -> Judged:
        equal = [one for one, known, test in zip(said, self._equal, self._test, strict=True) if test and known]
        different = [one for one, known, test in zip(said, self._equal, self._test, strict=True) if test and not known]
        wrong = equal.count(False) + different.count(True)
        decided = len(equal) + len(different) - equal.count(None) - different.count(None)
        return Judged(
            way=way,
            equal_decided=1 - equal.count(None) / len(equal),
            different_decided=1 - different.count(None) / len(different),
            false_equal=share_interval(different.count(True), len(different)),
            false_different=share_interval(equal.count(False), len(equal)),
            wrong=wrong / decided if decided else None,
            pair_ms=pair_ms,
        )


def table(title: str, rows: Sequence[Judged]) -> Table:
    """A row for each way."""
    columns = ("by", "decided of equal", "of different", "false equal", "false different", "wrong", "a pair")
    return Table(name="judge", title=title, columns=columns, rows=[_cells(row) for row in rows])


def _cells(row: Judged) -> tuple[Any, ...]:
    return (
        row.way,
        f"{row.equal_decided:.1%}",
        f"{row.different_decided:.1%}",
        _share(row.false_equal),
        _share(row.false_different),
        "-" if row.wrong is None else f"{row.wrong:.1%}",
        "-" if row.pair_ms is None else f"{row.pair_ms:.2f} ms",
    )


def _share(of: Interval) -> str:
    return f"{of.mean:.1%} ({of.low:.1%} to {of.high:.1%})"
