"""Phrases are counted in one pass as one search for each kind would count them."""

import re

from forebay_jobs.router.phrases import Phrases
from hypothesis import given
from hypothesis import strategies as st

KINDS = {
    "one": ("what if", "that one", "one after that", r"remain\w*", "no"),
    "other": ("not", "what", "as (?:many|much)", "stack ?trace"),
}
WORDS = (
    "what",
    "if",
    "that",
    "one",
    "after",
    "remains",
    "remain",
    "no",
    "not",
    "none",
    "as",
    "much",
    "stack",
    "trace",
    "é",
)
texts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from((" ", "", "-", "\n", "_", "? ")))).map(
    lambda parts: "".join(word + after for word, after in parts)
)


@given(texts)
def test_phrases_are_counted_as_a_search_for_each_kind_would(text: str) -> None:
    expected = {kind: len(re.findall(rf"\b(?:{'|'.join(phrases)})\b", text)) for kind, phrases in KINDS.items()}
    assert Phrases(KINDS).counts(text) == expected
