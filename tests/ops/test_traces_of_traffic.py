"""Traces of traffic: each form gives the same arrivals, what is wrong is told, and what is drawn follows the seed."""

import gzip
import io
import itertools
from collections import Counter
from itertools import islice, pairwise

import pytest
from forebay_ops.traces.arrivals import Arrival
from forebay_ops.traces.pacing import at_rate, at_speed, poisson, sampled
from forebay_ops.traces.reading import read_trace
from forebay_ops.traces.texts import LabelledText, drawn, in_order, read_texts, with_texts
from forebay_schemas.errors import ForebayError

AZURE = b"""TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
"""
MOONCAKE = b"""{"timestamp": 1000, "input_length": 374, "output_length": 44, "hash_ids": [0, 1]}
{"timestamp": 5314.579, "input_length": 396, "output_length": 109, "hash_ids": [0, 2]}
"""
OWN = b"""{"at_ms": 7, "question": "One?", "category": "support", "label": 3, "prompt_tokens": 374}

{"at_ms": 7.5, "messages": [{"role": "user", "content": "Two?"}], "request_id": "row-2"}
"""
DESK = [LabelledText(f"{label}, said {number}?", label) for label in ("card", "rate", "loan") for number in range(30)]


def arrivals(trace: bytes) -> list[Arrival]:
    return list(read_trace(io.BytesIO(trace)))


@pytest.mark.parametrize("trace", [AZURE, MOONCAKE, gzip.compress(AZURE)])
def test_the_public_forms_give_times_since_the_first_and_token_counts(trace: bytes) -> None:
    first, second = arrivals(trace)
    assert first == Arrival(at_ms=0, prompt_tokens=374, completion_tokens=44)
    assert (second.at_ms, second.prompt_tokens, second.completion_tokens) == (pytest.approx(4314.579), 396, 109)


def test_our_own_form_gives_requests_and_comes_back_as_it_was_written() -> None:
    first, second = found = arrivals(OWN)
    assert first == Arrival(
        at_ms=0, fields={"question": "One?", "category": "support"}, label="3", prompt_tokens=374
    )  # fmt: skip
    assert (second.at_ms, second.fields["request_id"], second.label) == (0.5, "row-2", None)
    assert arrivals(b"".join(arrival.line() for arrival in found)) == found


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        (b"", "the trace is empty"),
        (b"no trace", "line 1: begins no trace; give"),
        (b'{"question": "One?"}', "line 1: begins no trace; give"),
        (b'{"at_ms": 1}\n{"at_ms": "soon"}', r"line 2: .*`\$.at_ms`; give milliseconds"),
        (b'{"at_ms": NaN}', "line 1: at_ms: is nan; give milliseconds"),
        (b'{"at_ms": 1}\n[]', "line 2: is no object; give one"),
        (b'{"at_ms": 2}\n\n{"at_ms": 1}', "line 3: comes before the line above it; sort"),
        (MOONCAKE.replace(b"109", b"-1"), r"line 2: .*`\$.completion_tokens`"),
        (AZURE.replace(b"2023-11-16 18:15:50", b"noon"), "line 3: TIMESTAMP: .* is no time; give one such as"),
        (AZURE.replace(b"109", b"many"), r"line 3: .*`\$.completion_tokens`"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(trace: bytes, said: str) -> None:
    with pytest.raises(ForebayError, match=said):
        arrivals(trace)


@pytest.mark.parametrize("label", ["label", "intent", "class"])
def test_texts_have_their_label_under_several_names(label: str) -> None:
    (text,) = read_texts(io.BytesIO(f'{{"text": "One?", "{label}": 7}}'.encode()))
    assert text == LabelledText("One?", "7")


@pytest.mark.parametrize(
    ("line", "said"),
    [(b'{"intent": "a"}', "line 1: text: is absent"), (b'{"text": "One?"}', "line 1: label: is absent")],
)
def test_a_text_without_a_label_is_told(line: bytes, said: str) -> None:
    with pytest.raises(ForebayError, match=said):
        read_texts(io.BytesIO(line))


def test_texts_are_asked_in_the_order_of_their_file_and_again_from_its_beginning() -> None:
    asked = list(with_texts([Arrival(at_ms=number) for number in range(len(DESK) + 1)], in_order(DESK)))
    assert [arrival.fields["question"] for arrival in asked] == [each.text for each in DESK] + [DESK[0].text]
    assert {arrival.label for arrival in asked} == {"card", "rate", "loan"}


def test_a_support_desk_is_asked_some_things_often_in_the_same_and_in_other_words() -> None:
    asked = list(islice(drawn(DESK, seed=1), 1000))
    assert asked == list(islice(drawn(DESK, seed=1), 1000)) != list(islice(drawn(DESK, seed=2), 1000))
    texts, labels = Counter(each.text for each in asked), Counter(each.label for each in asked)
    # Of three labels by Zipf's law with 0.8 the first has 51 % and the last 21 %; of thirty texts 20 % and 1.3 %.
    assert [round(count / 1000, 1) for _, count in labels.most_common()] == [0.5, 0.3, 0.2]
    assert texts.most_common(1)[0][1] > 80
    assert len(texts) > 60


def test_times_are_scaled_as_a_whole() -> None:
    trace = [Arrival(at_ms=at_ms) for at_ms in (0, 10, 400)]
    assert [each.at_ms for each in at_speed(trace, 10)] == [0, 1, 40]
    assert [each.at_ms for each in at_rate(trace, 100)] == [0, 0.5, 20]
    assert at_rate(trace[:1], 100) == trace[:1]


def test_a_sample_keeps_times_and_order_and_comes_from_the_whole_trace() -> None:
    trace = [Arrival(at_ms=float(number)) for number in range(1_000)]
    chosen = sampled(trace, 200, seed=1)
    assert chosen == sampled(trace, 200, seed=1) != sampled(trace, 200, seed=2)
    assert all(one.at_ms < other.at_ms for one, other in itertools.pairwise(chosen))
    by_quarter = [sum(int(one.at_ms) // 250 == quarter for one in chosen) for quarter in range(4)]
    assert len(chosen) == 200
    assert all(30 < count < 70 for count in by_quarter)
    assert sampled(trace, 2_000, seed=1) == trace


def test_people_come_independently_of_each_other_at_the_rate() -> None:
    came = list(poisson(10_000, 50, seed=1))
    gaps = [later.at_ms - before.at_ms for before, later in pairwise(came)]
    assert sum(gaps) / len(gaps) == pytest.approx(20, rel=0.03)
    # Of exponential gaps the share below the mean is 1 - 1/e, whatever the mean is.
    assert sum(gap < 20 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.015)
    assert came == list(poisson(10_000, 50, seed=1))
