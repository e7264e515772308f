"""Lines of call logs become requests of ours with model, tokens and time; what cannot is told, not guessed."""

import gzip
import json
import re
from io import BytesIO
from typing import Any

import pytest
from forebay_ops.audit.reading import LogReader
from forebay_schemas.canonical import digests
from forebay_schemas.config import load_config
from forebay_schemas.records import Lane, Usage

from tests.builders import user
from tests.ops.audit_doubles import MODEL, USAGE, line, read

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "Why?"}]}
SHAPES = {
    "flat": {**BODY, "usage": USAGE},
    "request and response": {"request": BODY, "response": {"usage": USAGE}},
    "bodies in both": {"request": {"method": "POST", "body": BODY}, "response": {"body": {"usage": USAGE}}},
    "batch file": {"custom_id": "1", "body": BODY, "response": {"status_code": 200, "body": {"usage": USAGE}}},
    "usage outside": {"request": BODY, "response": {"choices": []}, "usage": USAGE},
    "model outside": {"request": {"messages": BODY["messages"]}, "model": MODEL, "usage": USAGE},
    "newer names": {**BODY, "usage": {"input_tokens": 100, "output_tokens": 50}},
    "prompt": {"model": MODEL, "prompt": "Why?", "usage": USAGE},
    "parts": {**BODY, "messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}], "usage": USAGE},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_each_usual_shape_is_the_same_call(shape: dict[str, Any]) -> None:
    [call], reader = read(shape)
    assert (call.model, call.usage) == (MODEL, Usage(**USAGE))
    assert call.request.messages == [user("Why?")]
    assert call.request.tenant == "acme"
    assert call.complete
    assert (reader.lines, reader.unreadable, reader.failed) == (1, 0, 0)


def test_parameters_are_part_of_the_request_and_null_ones_are_not() -> None:
    plain, null, warm, long, tools, functions = (
        call.request
        for call in read(
            line(),
            line(temperature=None, tools=[], stop=None, top_p=None),
            line(temperature=0.7),
            line(max_completion_tokens=9),
            line(tools=[{"type": "function", "function": {"name": "f"}}]),
            line(functions=[{"name": "f"}]),
        )[0]
    )
    assert digests(plain) == digests(null)
    assert (warm.temperature, long.max_tokens) == (0.7, 9)
    assert tools.tools is not None
    assert tools.tools == functions.tools
    assert len({digests(request).exact for request in (plain, warm, long, tools)}) == 4


def test_who_asks_and_where_stands_in_the_line_or_in_the_request() -> None:
    [beside], _ = read({"request": BODY, "tenant": "globex", "endpoint": "chat", "usage": USAGE}, category="support")
    assert (beside.request.tenant, beside.request.endpoint, beside.request.category) == ("globex", "chat", "support")
    [inside], _ = read({"request": {**BODY, "category": "code"}, "category": "x", "usage": USAGE}, category="support")
    assert inside.request.category == "code"


def test_lines_of_batch_files_are_on_the_batch_lane() -> None:
    calls, _ = read(SHAPES["batch file"], SHAPES["flat"])
    assert [call.request.lane for call in calls] == [Lane.BATCH, Lane.INTERACTIVE]


def test_cached_tokens_are_part_of_the_prompt() -> None:
    [call], _ = read(line(usage={**USAGE, "prompt_tokens_details": {"cached_tokens": 64}}))
    assert call.usage == Usage(**USAGE, cached_prompt_tokens=64)


@pytest.mark.parametrize(
    "told",
    [
        {"timestamp": "2026-11-21T07:00:00Z"},
        {"timestamp": "2026-11-21 07:00:00"},
        {"timestamp": "2026-11-21T08:00:00+01:00"},
        {"created": 1795244400},
        {"ts": "1795244400"},
        {"created_ms": 1795244400000},
        {"time": 1795244400000000},
        {"@timestamp": 1795244400000000000},
        {"response": {"created": 1795244400, "usage": USAGE}},
    ],
)
def test_times_are_read_in_each_usual_form(told: dict[str, Any]) -> None:
    [call], _ = read(line(**told))
    assert call.at_s == 1795244400
    assert call.request.created_ms == 1795244400000


def test_a_line_without_a_time_has_none() -> None:
    [call], _ = read(line())
    assert call.at_s is None


def test_only_answers_that_came_to_their_end_are_complete() -> None:
    reasons = ["stop", "length", "tool_calls", "content_filter"]
    calls, _ = read(
        *({"request": BODY, "response": {"choices": [{"finish_reason": r}], "usage": USAGE}} for r in reasons)
    )
    assert [call.complete for call in calls] == [True, False, False, False]


@pytest.mark.parametrize(
    "failed",
    [
        {"request": BODY, "error": {"message": "rate limit"}},
        {"request": BODY, "response": {"error": {"code": 500}}},
        {"body": BODY, "response": {"status_code": 429, "body": {}}},
        {**BODY, "status_code": 503},
    ],
)
def test_failed_calls_are_left_out_and_counted(failed: dict[str, Any]) -> None:
    calls, reader = read(failed, line())
    assert (len(calls), reader.lines, reader.failed, reader.unreadable) == (1, 2, 1, 0)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no object"),
        ({"usage": USAGE, "model": MODEL}, "messages: is absent"),
        (BODY, "usage: is absent"),
        ({"messages": BODY["messages"], "usage": USAGE}, "model: is absent"),
        (line(usage={"completion_tokens": 1}), "usage.prompt_tokens: is absent"),
        (line(usage={"prompt_tokens": -1}), "usage.prompt_tokens: is -1"),
        (line(usage={"prompt_tokens": True}), "usage.prompt_tokens: is True"),
        (line(messages=[]), "messages: is empty"),
        (line(messages="Why?"), "messages: is no list"),
        (line(messages=["Why?"]), r"messages\[0\]: is no object"),
        (line(messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "a part of the type 'image_url'"),
        (line(messages=[{"role": "function", "content": "1"}]), r"messages\[0\].role: 'function' is unknown"),
        (line(n=3), "n: is 3"),
        (line(temperature=9), "temperature: is 9"),
        (line(timestamp="yesterday"), "timestamp: is 'yesterday', which is no time"),
        (line(timestamp=-1), "timestamp: is -1"),
        ({"prompt": ["a", "b"], "model": MODEL, "usage": USAGE}, "prompt: is no text"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line_and_the_rest_is_read(bad: Any, problem: str) -> None:
    calls, reader = read(line(), bad, line())
    assert (len(calls), reader.lines, reader.unreadable) == (2, 3, 1)
    [told] = reader.problems
    assert told.startswith("calls.jsonl line 2: ")
    assert re.search(problem, told)


def test_only_the_first_problems_are_kept() -> None:
    _, reader = read(*["{"] * 100)
    assert (reader.unreadable, len(reader.problems)) == (100, 5)


def test_gzip_is_read_as_it_is_and_one_that_is_still_written_up_to_its_end() -> None:
    whole = gzip.compress("\n".join(json.dumps(line(f"Why {n}?")) for n in range(2000)).encode())
    for data, problems in ((whole, 0), (whole[: len(whole) // 2], 1)):
        reader = LogReader(load_config(), tenant="acme", category=None)
        calls = list(reader.calls("calls.jsonl.gz", BytesIO(data)))
        assert len(reader.problems) == problems
        assert calls
        assert (len(calls) == 2000) == (problems == 0)
    assert "cannot be read after line" in reader.problems[0]


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_ops.audit.reading.MOST_LINE_BYTES", 1000)
    calls, reader = read(line("Why? " * 1000), line())
    assert (len(calls), reader.unreadable) == (1, 1)
