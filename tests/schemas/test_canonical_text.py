"""What of a text counts: everything but whitespace that carries no meaning, and Unicode form."""

import random
import time
import unicodedata

import pytest
from forebay_schemas.canonical import canonical_text, digests
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_request

from .strategies import prose, texts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("  a  b ", "a b"),
        ("a\u00a0\u3000b", "a b"),
        ("a \nb", "a\nb"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\n\n\n\nb", "a\n\nb"),
        ("a\n \t \n\nb", "a\n\nb"),
        ("\n\n a", "a"),
        ("Caf\u00e9", "Cafe\u0301"),
        ("```py  \nx  = 1\n```  \n\n\nb  c", "```py\nx  = 1\n```\n\nb c"),
    ],
)
def test_whitespace_without_meaning_and_unicode_form_do_not_count(one: str, other: str) -> None:
    assert canonical_text(one) == canonical_text(other)
    assert digests(make_request(one)) == digests(make_request(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a b", "ab"),
        ("a\nb", "a b"),
        ("a\n\nb", "a\nb"),
        ("A", "a"),
        ("a", "a."),
        ("ﬁ", "fi"),
        ("if x:\n    y", "if x:\n  y"),
        ("```\nx  = 1\n```", "```\nx = 1\n```"),
        ("```\nx\n\n\n\ny\n```", "```\nx\n\ny\n```"),
        ("```\nx  = 1", "```\nx = 1"),
        ("~~~\nx  = 1\n```\ny  = 1\n~~~", "~~~\nx  = 1\n```\ny = 1\n~~~"),
        ("````\n```\nx  = 1\n````", "````\n```\nx = 1\n````"),
        ("1. this\n   ```\n   x  = 1\n   ```", "1. this\n   ```\n   x = 1\n   ```"),
        ("What is `'a  b'`?", "What is `'a b'`?"),
        ("1\t\t3", "1\t3"),
        ("a\u200bb", "ab"),
    ],
)
def test_whitespace_in_code_and_tables_and_everything_else_counts(one: str, other: str) -> None:
    assert canonical_text(one) != canonical_text(other)
    assert digests(make_request(one)).exact != digests(make_request(other)).exact


@pytest.mark.parametrize("opening", ["```inline``` and", "text ```", "``"])
def test_inline_code_opens_no_fence(opening: str) -> None:
    assert canonical_text(f"{opening}\na  b") == f"{opening}\na b"


@given(texts | prose)
def test_the_canonical_form_is_its_own_canonical_form(text: str) -> None:
    once = canonical_text(text)

    assert canonical_text(once) == once
    assert canonical_text(unicodedata.normalize("NFD", text)) == once
    assert once == once.strip()


@given(prose)
def test_only_whitespace_is_ever_changed(text: str) -> None:
    assert canonical_text(text).split() == text.split()


@given(st.lists(st.sampled_from(["a", "é", "b:"]), min_size=1), st.randoms(use_true_random=False))
def test_runs_of_spaces_between_words_do_not_count(words: list[str], chooser: random.Random) -> None:
    spaced = "".join(word + chooser.choice([" ", "  ", " \u00a0 "]) for word in words)

    assert canonical_text(spaced) == " ".join(words)


_MB = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        " " * _MB + "x",
        "a\n" + " " * _MB + "x",
        "a " * (_MB // 2),
        "a\n" + "\n" * _MB + "b",
        "```a\n" * (_MB // 5),
        "```\nx\n```\n" * (_MB // 10),
        "~~~\n" + "~~~ x\n" * (_MB // 6),
        "`" * _MB,
        "`" * (_MB // 2) + " x `" + "`" * (_MB // 2),
        "```" + " " * _MB + "x",
        "\t" * _MB + "x",
        "é" * (_MB // 2),
        ("e" + "\u0301\u0323" * 15) * (_MB // 62),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_a_megabyte_of_anything_valid_is_normalised_in_linear_time(text: str) -> None:
    started = time.process_time()
    canonical_text(text)

    assert time.process_time() - started < 5  # quadratic, the first of these takes an hour
