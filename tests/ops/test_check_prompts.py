"""What in a static prompt keeps it out of prefix caches: found where it changes, passed over where it does not."""

import json
import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from click.testing import CliRunner
from forebay_ops.cli.check_prompts import check_prompts
from forebay_ops.prefixes.alignment import differing_places
from forebay_ops.prefixes.atoms import Kind, atoms, kind_of, unmistakable
from forebay_ops.prefixes.check import Finding, check
from forebay_schemas.records import Request
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_request, system, user

INTRODUCTION = "You are the support desk of Acme, a shop for pumps since 2004, version 2.3.1. "
RULES = " Answer in one short sentence. Never promise a refund, and never name another shop."


def requests(prompt: Callable[[int], str], count: int = 20, **fields: Any) -> list[Request]:
    return [
        make_request(request_id=str(number), static_messages=[system(prompt(number))], **fields)
        for number in range(count)
    ]


def found(of: Iterable[Request]) -> list[Finding]:
    return check(of).findings


# --- what changes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.TIMESTAMP, lambda n: f"2026-11-21T07:{n:02d}:03Z"),
        (Kind.TIMESTAMP, lambda n: f"Saturday, November 21, 2026 at 7:{n:02d} PM"),
        (Kind.DATE, lambda n: f"2026-11-{n + 1:02d}"),
        (Kind.DATE, lambda n: f"{n + 1}. March 2026"),
        (Kind.TIME, lambda n: f"07:{n:02d}"),
        (Kind.UUID, lambda n: str(uuid.UUID(int=n << 64))),
        (Kind.EPOCH, lambda n: str(1_790_000_000 + n)),
        (Kind.ID, lambda n: f"sess_{n:04x}9f3a"),
        (Kind.COUNTER, lambda n: str(n + 7)),
        (Kind.NUMBER, lambda n: str(n * 7 % 20)),
        (Kind.TEXT, lambda n: ["Ada Lovelace", "Grace Hopper", "Linus", "Barbara Liskov", "Ken"][n % 5]),
    ],
)
def test_it_is_found_with_its_kind_and_its_place(kind: Kind, value: Callable[[int], str]) -> None:
    [finding] = found(requests(lambda n: f"{INTRODUCTION}It is <{value(n)}>.{RULES}"))
    assert (finding.kind, finding.examples[0]) == (kind, value(0))
    assert (finding.field, finding.character) == ("static_messages[0].content", len(f"{INTRODUCTION}It is <"))
    assert finding.before.endswith("It is <")
    assert finding.after.startswith(">.")
    assert (finding.certain, finding.requests) == (True, 20)
    assert finding.distinct == len({value(n) for n in range(20)})
    assert "last turn" in finding.mend


def test_what_is_lost_is_counted_from_the_place_to_the_end_of_the_static_part() -> None:
    def prompt(at_the_beginning: bool) -> Callable[[int], str]:
        words = INTRODUCTION * 10
        return lambda n: f"07:{n:02d} {words}" if at_the_beginning else f"{words} 07:{n:02d}"

    [early], [late] = found(requests(prompt(True))), found(requests(prompt(False)))
    assert early.prefix_tokens == pytest.approx(len(INTRODUCTION) * 10 / 4, rel=0.05)
    assert early.lost_tokens > 0.95 * early.prefix_tokens
    assert late.lost_tokens < 5


def test_each_place_is_found_the_one_that_costs_most_first() -> None:
    findings = found(requests(lambda n: f"It is 07:{n:02d}. {INTRODUCTION}session: {n:03x}abc{RULES}"))
    assert [finding.kind for finding in findings] == [Kind.TIME, Kind.ID]
    near = found(requests(lambda n: f"{INTRODUCTION}session_id={n:04x}abcdef attempt {n}"))
    assert [finding.kind for finding in near] == [Kind.ID, Kind.COUNTER]


def test_a_later_turn_is_named_as_it_lies_in_the_request() -> None:
    turns = [system("Be brief."), user("An example?"), system("Attempt 1")]
    several = [
        make_request(static_messages=[*turns[:2], system(f"Attempt {number}")], request_id=str(number))
        for number in range(1, 10)
    ]
    [declared] = found(several)
    assert (declared.field, declared.character, declared.kind) == (
        "static_messages[2].content",
        len("Attempt "),
        Kind.COUNTER,
    )
    leading = [
        make_request(messages=[system("Be brief."), system(f"It is 07:{number:02d}"), user("Why?")])
        for number in range(9)
    ]
    [undeclared] = found(leading)
    assert undeclared.field == "messages[1].content"


def test_a_static_part_that_is_another_each_time_is_found() -> None:
    def passage(number: int) -> str:
        rng = random.Random(number)
        return "Answer from: " + " ".join(rng.choice("abcdefghijklm") * rng.randint(2, 6) for _ in range(60))

    [finding] = found(requests(passage))
    assert finding.kind is Kind.TEXT
    assert finding.distinct == 20


# --- what does not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt",
    [
        lambda n: f"{INTRODUCTION}Opened on 2004-05-01T08:00:00Z, licence {uuid.UUID(int=7)}.{RULES}",
        lambda n: f"Translate to {['French', 'German', 'Dutch'][n % 3]}. Answer with the translation only.",
        lambda n: f"Answer in at most {[60, 100][n % 2]} words.{RULES}",
        lambda n: [INTRODUCTION, RULES][n % 2],
    ],
    ids=["what never changes", "a few languages", "two limits", "two prompts"],
)
def test_it_is_passed_over(prompt: Callable[[int], str]) -> None:
    assert found(requests(prompt)) == []


def test_a_date_that_changes_once_in_many_requests_costs_nothing() -> None:
    assert found(requests(lambda n: f"{INTRODUCTION}Today is 2026-11-{21 + (n > 60)}.", count=100)) == []


def test_tenants_call_sites_and_versions_may_differ() -> None:
    def several(count: int, **fields: Any) -> list[Request]:
        return [
            make_request(static_messages=[system(f"Today is {1 + number}. March 2026")], **fields)
            for number in range(count)
            for _ in range(2)
        ]

    apart = ({name: str(number)} for name in ("tenant", "endpoint", "category", "prompt_version") for number in (1, 2))
    for fields in apart:
        assert found(several(1, **fields)) == []
    assert found(several(2))
    assert found([*several(1, tenant="one"), *several(1, tenant="two")]) == []


def test_requests_without_a_static_part_are_counted_only() -> None:
    checked = check([make_request(), make_request(messages=[user("It is 2026-11-21T07:00:00Z.")])])
    assert (checked.requests, checked.without_prefix, checked.call_sites, checked.findings) == (2, 2, 0, [])


# --- a single request ---------------------------------------------------------------------------------------------


def test_of_a_single_request_only_the_unmistakable_is_named_as_what_may_change() -> None:
    [finding] = found(requests(lambda _: f"{INTRODUCTION}It is 2026-11-21 07:00.{RULES}", count=1))
    assert (finding.certain, finding.kind, finding.examples) == (False, Kind.TIMESTAMP, ["2026-11-21 07:00"])
    assert found(requests(lambda _: f"{INTRODUCTION}Since 2004-01-01, order 66, utf8mb4, {'9' * 16}.", count=1)) == []


@pytest.mark.parametrize("text", ["version 1.2.10", "0123456789", "a1700000000", "GPT-4-2024-11-20", "3:1 odds", "12"])
def test_what_only_looks_like_it_is_not_unmistakable(text: str) -> None:
    assert unmistakable(text) is None


# --- alignment ----------------------------------------------------------------------------------------------------


@given(st.text())
def test_the_atoms_of_a_text_are_the_text(text: str) -> None:
    assert "".join(atoms(text)) == text


@given(st.lists(st.lists(st.sampled_from("abc .-"), max_size=12), min_size=2, max_size=5))
def test_texts_are_equal_but_for_the_differing_places(texts: list[list[str]]) -> None:
    places = differing_places(texts)
    for index, text in enumerate(texts):
        rebuilt, done = "", 0
        for place in places:
            rebuilt += "".join(texts[0][done : place.start]) + place.values[index]
            done = place.end
        assert rebuilt + "".join(texts[0][done:]) == "".join(text)


def test_a_name_in_front_tells_an_id() -> None:
    assert kind_of(["abc", "xyz"], "Conversation: ") is Kind.ID
    assert kind_of(["abc", "xyz"], "Dear ") is Kind.TEXT


# --- the command --------------------------------------------------------------------------------------------------


def run(text: str, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(check_prompts, ["-", *arguments], input=text)
    if result.exception and not isinstance(result.exception, SystemExit):
        return result.exit_code, str(result.exception)
    return result.exit_code, result.output


def lines(prompt: Callable[[int], str]) -> str:
    return "".join(json.dumps({"system": prompt(n), "question": f"{n}?"}) + "\n" for n in range(10))


def test_the_command_shows_the_place_and_fails() -> None:
    code, out = run(lines(lambda n: f"{INTRODUCTION}Session {n:06x}f1.{RULES}"), "--tenant", "acme")
    assert code == 1
    assert "acme / default: session or request id in the static prompt (10 values in 10 requests)" in out
    assert "Session 000000f1. Answer" in out
    assert "10 requests, 1 call sites: 1 place defeats prefix caches" in out


def test_the_command_is_content_with_what_stays_the_same() -> None:
    code, out = run(lines(lambda _: INTRODUCTION))
    assert (code, out) == (0, "10 requests, 1 call sites: nothing defeats prefix caches\n")


def test_the_command_prints_json() -> None:
    code, out = run(lines(lambda n: f"It is 07:{n:02d}. {RULES}"), "--json")
    assert code == 1
    assert json.loads(out)["findings"][0]["kind"] == "time"


@pytest.mark.parametrize(
    ("line", "problem"),
    [("no json", "line 2: is no JSON"), ('{"question": "x", "max_token": 1}', "line 2: max_token: is no field")],
)
def test_a_bad_line_is_named(line: str, problem: str) -> None:
    code, out = run(f'{{"question": "x"}}\n{line}\n')
    assert code == 1
    assert problem in out


def test_a_file_or_the_topic_is_needed_and_not_both() -> None:
    assert CliRunner().invoke(check_prompts, []).exit_code == 2
    assert CliRunner().invoke(check_prompts, ["-", "--topic"]).exit_code == 2
