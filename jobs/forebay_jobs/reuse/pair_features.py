"""What two questions share and where they differ, as a short vector that costs microseconds.

An embedding is nearly blind to what decides whether two questions have one answer: a number, a name, a negation,
which of two things comes first. These are read off the words.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

FEATURES = (
    "bias",
    "distance",
    "near",
    "content_missing",
    "content_added",
    "content_shared",
    "overlap",
    "inflected",
    "numbers_differ",
    "names_differ",
    "names_shared",
    "negation_differs",
    "opposites",
    "asked_differs",
    "person_differs",
    "order_differs",
    "same_words",
    "length",
    "length_gap",
    "function_words",
)
"""Names of the vector's places, in order."""


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[^\W_]+(?:['.,][^\W_]+)*[+#%]*")
_NUMBER = re.compile(r"\d")
_NEGATIONS = _words_of(
    "no not never none nothing nobody without cannot neither nor unable dont doesnt didnt isnt arent wasnt werent"
    " wont cant couldnt shouldnt wouldnt hasnt havent aint"
)
_NUMERALS = _words_of(
    "one two three four five six seven eight nine ten eleven twelve first second third hundred thousand million"
    " billion half double twice once"
)
_ASKED = _words_of("what who whom whose which when where why how")
_FIRST = _words_of("i me my mine myself we us our")
_SECOND = _words_of("you your yours yourself u ur")
_FUNCTION = (
    _words_of(
        "a an the of to in on at by for with from as into about and or but if so than that this these those it its"
        " is are was were be been being am do does did has have had having can could will would should shall may"
        " might must there here their they them he she his her him some any all such just very really ever"
        " please tell get got know whats hows im ive id s t re ve ll d m"
    )
    | _ASKED
    | _FIRST
    | _SECOND
)
_OPPOSITES = {
    word: pair
    for pair, words in enumerate(
        (
            "best worst", "good bad", "increase decrease", "gain lose", "buy sell", "before after", "start stop",
            "open close", "male female", "men women", "man woman", "boy girl", "boys girls", "boyfriend girlfriend",
            "husband wife", "more less", "most least", "highest lowest", "high low", "hot cold", "in out", "up down",
            "advantages disadvantages", "pros cons", "add remove", "enable disable", "install uninstall", "long short",
            "old new", "north south", "east west", "first last", "win lose", "send receive", "import export",
            "minimum maximum", "left right", "true false", "love hate", "fast slow", "easy hard", "deposit withdraw",
            "activate deactivate", "accept decline", "with without", "inside outside", "debit credit",
        )
    )
    for word in words.split()
}  # fmt: skip
_SUFFIXES = ("ing", "ies", "es", "ed", "ly", "er", "s", "e", "y")


class Words(NamedTuple):
    """What is read off one text."""

    content: tuple[str, ...]
    """Words that carry meaning, as stems, in order."""
    bag: frozenset[str]
    raw: frozenset[str]
    numbers: frozenset[str]
    names: frozenset[str]
    function: frozenset[str]
    negations: int
    asked: str
    first: bool
    second: bool
    length: int


def pair_features(question: str, neighbour: str, similarity: float) -> list[float]:
    """The vector of ``FEATURES`` for a question and the one whose answer might be given to it.

    Args:
        question: as it was asked now.
        neighbour: as it was asked before; its answer is known.
        similarity: cosine of their embeddings, in [-1, 1].
    """
    ours, theirs = words_in(question), words_in(neighbour)
    missing, added = theirs.bag - ours.bag, ours.bag - theirs.bag
    shared = len(ours.bag & theirs.bag)
    inflected = 0
    if missing and added:
        inflected = min(_alike(missing, added), len(added))
    union = shared + len(missing) + len(added)
    distance = max(0.0, 1.0 - similarity)
    same = not missing and not added
    return [
        1.0,
        math.log(distance + 0.005),
        max(0.0, 1.0 - distance / 0.05),
        math.log1p(len(missing) - inflected),
        math.log1p(len(added) - inflected),
        math.log1p(shared),
        shared / union if union else 1.0,
        float(inflected > 0),
        float(ours.numbers != theirs.numbers),
        math.log1p(len(ours.names ^ theirs.names)),
        float(bool(ours.names & theirs.names)),
        float(ours.negations % 2 != theirs.negations % 2),
        float(bool(missing and added) and opposed(ours, theirs)),
        float(ours.asked != theirs.asked),
        float(ours.first != theirs.first) + float(ours.second != theirs.second),
        float(same and ours.content != theirs.content),
        float(same),
        math.log1p(min(ours.length, theirs.length)),
        abs(math.log((1 + ours.length) / (1 + theirs.length))),
        math.log1p(len(ours.function ^ theirs.function)),
    ]


def opposed(one: Words, other: Words) -> bool:
    """Whether one text has a word where the other has its opposite."""
    others = {_OPPOSITES[word] for word in other.raw - one.raw if word in _OPPOSITES}
    return any(_OPPOSITES.get(word) in others for word in one.raw - other.raw)


@lru_cache(maxsize=4096)
def words_in(text: str) -> Words:
    tokens = _WORD.findall(text[:2000])
    lower = [token.lower().replace("'", "") for token in tokens]
    content = tuple(_stem(word) for word in lower if word not in _FUNCTION)
    function = frozenset(word for word in lower if word in _FUNCTION)
    # The first word of a sentence is capitalised anyway.
    names = frozenset(
        lower[place] for place, token in enumerate(tokens) if place and token[0].isupper() and token != "I"
    )
    return Words(
        content=content,
        bag=frozenset(content),
        raw=frozenset(lower),
        numbers=frozenset(word for word in lower if _NUMBER.search(word) or word in _NUMERALS),
        names=names,
        function=function,
        negations=sum(word in _NEGATIONS for word in lower),
        asked=next((word for word in lower if word in _ASKED), ""),
        first=not _FIRST.isdisjoint(lower),
        second=not _SECOND.isdisjoint(lower),
        length=len(tokens),
    )


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def _alike(missing: Sequence[str] | frozenset[str], added: Sequence[str] | frozenset[str]) -> int:
    """How many words of one side have another form of themselves on the other: a typo or an ending."""
    found = 0
    for word in missing:
        if len(word) >= 4 and any(other[:4] == word[:4] for other in added):
            found += 1
    return found
