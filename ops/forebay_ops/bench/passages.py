"""The made-up handbook of a support desk: its passages, questions with their answers, and what a request carries."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

_FOLDER = Path(__file__).with_name("handbook")
_CARRIED = 12
"""Passages of a request. Those of the same topic are among them: what a search for the question would bring too."""

T = TypeVar("T")


class Passage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A passage of the handbook."""

    id: str
    topic: str
    text: str


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question about it.

    Attributes:
        needs: ids of the passages without which it cannot be answered.
        answer: a number, name or duration that every right answer holds, and no other passage.
    """

    question: str
    needs: list[str]
    answer: str

    def answered_by(self, text: str) -> bool:
        """Whether a text holds the answer, as a word of its own."""
        return re.search(rf"(?<![\w.,]){re.escape(self.answer)}(?!\w)", text, re.IGNORECASE) is not None


@dataclass(frozen=True, slots=True)
class Carried:
    """A question, and the passages that its request carries, in the order in which it does."""

    question: Question
    passages: list[Passage]

    def needed(self) -> set[int]:
        """The places of the passages that the answer needs."""
        return {place for place, passage in enumerate(self.passages) if passage.id in self.question.needs}


class Handbook:
    """All passages and questions, by two halves: what is fitted on one is judged on the other.

    Attributes:
        passages: by id.
        fitting, judging: the questions of every other topic; one that needs two passages goes with the first.
    """

    def __init__(self) -> None:
        self.passages = {passage.id: passage for passage in _read("passages.jsonl", Passage)}
        topics = list(dict.fromkeys(passage.topic for passage in self.passages.values()))
        halves: tuple[list[Question], list[Question]] = ([], [])
        for question in _read("questions.jsonl", Question):
            halves[topics.index(self.passages[question.needs[0]].topic) % 2].append(question)
        self.fitting, self.judging = halves

    def carried(self, questions: Sequence[Question], seed: int) -> list[Carried]:
        """A request's passages for each question: those it needs, all others of their topics, and random ones."""
        draw = random.Random(seed)
        return [Carried(question, self._drawn(question, draw)) for question in questions]

    def _drawn(self, question: Question, draw: random.Random) -> list[Passage]:
        topics = {self.passages[needed].topic for needed in question.needs}
        near = [passage for passage in self.passages.values() if passage.topic in topics]
        far = [passage for passage in self.passages.values() if passage.topic not in topics]
        passages = near + draw.sample(far, _CARRIED - len(near))
        draw.shuffle(passages)
        return passages


def _read(name: str, kind: type[T]) -> list[T]:
    decoder = msgspec.json.Decoder(kind)
    return decoder.decode_lines((_FOLDER / name).read_bytes())
