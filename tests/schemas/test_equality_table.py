"""docs/equality.md names every field, and says of each what the digests do."""

import re
from pathlib import Path

import pytest
from forebay_schemas.records import CacheOptions, Message, Request

from .test_digests import COUNTS, DOES_NOT_COUNT

PAGE = (Path(__file__).parents[2] / "docs" / "equality.md").read_text("utf-8")


def rows(heading: str) -> dict[str, str]:
    """The table below a heading: what its first column names, and what the second says of it."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", section, re.MULTILINE))


def test_every_field_of_a_request_is_in_the_table() -> None:
    fields = [name for name in Request.__struct_fields__ if name != "cache"]
    fields += [f"cache.{name}" for name in CacheOptions.__struct_fields__]

    assert sorted(rows("Fields of a request")) == sorted(fields)


def test_every_field_of_a_turn_is_in_the_table() -> None:
    assert sorted(rows("A turn")) == sorted(Message.__struct_fields__)


@pytest.mark.parametrize(("field", "says"), rows("Fields of a request").items())
def test_the_table_says_what_the_digests_do(field: str, says: str) -> None:
    name = field.split(".")[0]
    assert says in ("yes", "no") or says.startswith(("if ", "unless "))
    if says == "yes":
        assert name in COUNTS
    if says == "no":
        assert name in DOES_NOT_COUNT


def test_the_three_digests_are_explained() -> None:
    assert list(rows("The three digests")) == ["exact", "context", "prefix"]
