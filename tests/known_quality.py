"""Two backends of known quality, and labelled questions: of each it is known which backend answers it rightly."""

import itertools
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

EASY = ("spell", "translate", "classify", "name")
HARD = ("prove", "derive", "optimise", "refute")
THINGS = tuple(
    f"{first}{second}" for first in ("alpha", "beta", "gamma", "delta") for second in ("beam", "gate", "lock")
)


@dataclass
class Backends:
    """The two models. ``beyond`` are the tasks on which the small one is wrong; the large one is always right."""

    beyond: Collection[str]

    def right(self, tier: str, question: str) -> bool:
        """Whether a tier's answer to a question is right."""
        return tier == "large" or question.split()[1] not in self.beyond

    def text(self, tier: str, question: str) -> str:
        """A tier's answer to a question."""
        digest = random.Random(question).randrange(1_000_000)
        return f"It is {digest}." if self.right(tier, question) else f"I think it is {digest + 1}."

    def oracle(self, question: str) -> str:
        """The tier that whoever knows all would ask: the cheapest that is right."""
        return "small" if self.right("small", question) else "large"


def questions() -> Iterator[str]:
    """Without end, half of them easy, no two equal, the same ones each time."""
    dice = random.Random(1)
    for number in itertools.count():
        yield f"Please {dice.choice(EASY + HARD)} the {dice.choice(THINGS)} on page {10_000 + number}"
