"""What is asked, and the one right answer to it, which says whose question it was."""

import random
import re

ALIKE = "alike"
"""The category whose questions may be answered by meaning, with the answer to another wording."""

_GOODS = (
    "almonds amber barley basalt butter candles carbon carpets cement cherries clocks clover coal coffee copper coral"
    " corn cotton diesel drums eggs fish flour garlic ginger glass granite hats honey horses ivory jam kettles leather"
    " lemons letters milk mirrors mustard nails needles olives onions oranges paint pearls pianos plums roses salt sand"
    " silk soap sugar tea tobacco umbrellas walnuts wine wool"
)
GOODS = _GOODS.split()
"""Any two make a topic. With another topic a question has a cosine of at most 0.95, in other words of 0.995 or more
(`test_answers`)."""
_WORDING = re.compile(r"do the reservoirs of (\w+) hold (\w+),? and (\w+)\?")

Topic = tuple[str, str]


def question(tenant: str, subject: int) -> str:
    """A question that no other tenant asks."""
    return f"What does reservoir {subject} of {tenant} hold?"


def any_topic(chance: random.Random) -> Topic:
    """What a question of ``alike`` is about."""
    one, other = sorted(chance.sample(GOODS, 2))
    return one, other


def wording(tenant: str, topic: Topic, chance: random.Random) -> str:
    """One of a thousand ways to ask the same: with a comma, and with words in upper case, which counts where equal
    requests are sought, and which the embedding model does not see."""
    one, other = topic
    comma = chance.choice(("", ","))
    words = f"Do the reservoirs of {tenant} hold {one}{comma} and {other}?".split()
    return " ".join(chance.choice((word, word.upper())) for word in words)


def alike(one: str, other: str) -> bool:
    """Whether two questions are wordings of the same, so that the answer to one is right for the other."""
    meant, found = (_WORDING.fullmatch(text.lower()) for text in (one, other))
    return meant is not None and found is not None and meant.groups() == found.groups()


def answer(asked: str) -> str:
    """What a model of the suite says; all of it follows from the question."""
    return f"It holds what was asked for in: {asked}"
