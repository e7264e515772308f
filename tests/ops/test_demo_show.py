"""What the demo prints: on a narrow terminal, on a wide one, and in a log."""

import io

import pytest
from forebay_ops.demo.player import Outcome, Play
from forebay_ops.demo.script import Expect, Line
from forebay_ops.demo.show import Show, show_summary
from forebay_ops.demo.summary import summarise
from forebay_ops.local.effective import PROFILE
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheStatus
from rich.console import Console

from tests.ops.demo_doubles import a_line, an_outcome

ORIGINAL = a_line(1, text="How do I enable the automatic restart of the pump?")
REWORDED = a_line(
    2, at=2, expect=Expect.SEMANTIC, text="How do I disable the automatic restart of the pump?", note="WRONG reuse"
)
OUTCOMES = [
    an_outcome(ORIGINAL, 1_234.0, cost=0.000123, baseline_cost=0.0010, model_id="smollm2-135m-instruct"),
    an_outcome(
        REWORDED, 7.4, similarity=0.9384, matched_request_id=ORIGINAL.request_id("run"), baseline_cost=0.0010
    ),
    an_outcome(a_line(3, at=3, expect=Expect.ERROR)),
    an_outcome(a_line(4, at=3, expect=Expect.DEAD_LETTER, tenant=None, raw="no Avro")),
]  # fmt: skip


@pytest.fixture
def config() -> Config:
    return load_config(PROFILE)


def shown(config: Config, width: int, outcomes: list[Outcome] = OUTCOMES) -> str:
    """All that is printed of a play, as a log holds it."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    lines = [outcome.line for outcome in outcomes]
    with Show(console, lines) as show:
        for outcome in outcomes:
            show.answered(outcome)
    play = Play(outcomes=outcomes, unanswered=[], unsent=[], duration_s=61.0)
    show_summary(console, summarise(outcomes, list(config.tiers)), play, config)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_all_is_ascii(config: Config, width: int):
    text = shown(config, width)

    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()


def test_an_answer_is_one_line_with_its_attribution(config: Config):
    line = shown(config, 120).splitlines()[1]

    for part in ("1 millrace", "miss", "small", "smollm2-135m-instruct", "1.23 s", "$0.000123", ORIGINAL.question):
        assert part in line


def test_a_semantic_hit_shows_both_questions_and_their_cosine_also_on_a_narrow_terminal(config: Config):
    text = shown(config, 80)

    assert f"asked {REWORDED.question}" in text
    assert f"known {ORIGINAL.question[:40]}" in text
    assert "cosine 0.938" in text
    assert "WRONG reuse" in text


def test_an_error_and_a_dead_letter_say_what_was_wrong(config: Config):
    text = shown(config, 80)

    assert "deadline_exceeded: deadline_ms: passed 5 ms ago" in text
    assert "not_avro: the value is no Avro" in text
    assert "Error replies: 1 deadline_exceeded" in text
    assert "Dead letters: 1 not_avro" in text


def test_the_summary_has_hits_tiers_percentiles_and_cost(config: Config):
    text = shown(config, 80)

    for part in ("4 requests in 61 s", "semantic hit", "P50", "P95", "P99", "all sent to the large tier", "94% saved"):
        assert part in text
    for tier in config.tiers:
        assert tier in text


def test_a_surprise_is_told(config: Config):
    exact = an_outcome(a_line(1, expect=Expect.JOINED), cache_status=CacheStatus.EXACT)

    assert "otherwise than the script expects: #1 exact for joined" in shown(config, 80, [exact])
    assert "otherwise" not in shown(config, 80)


def test_it_says_that_one_model_serves_all_tiers_and_that_the_figures_are_no_benchmark(config: Config):
    text = " ".join(shown(config, 80).split())

    assert "all tiers share one small model here (smollm2-135m-instruct), and costs are the list prices" in text
    assert "none of these figures is a benchmark" in text


def test_silence_is_told_in_a_log_every_ten_seconds(config: Config):
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    lines: list[Line] = [a_line(number) for number in range(1, 6)]
    with Show(console, lines) as show:
        for silent_s in (0.1, 9.0, 10.1, 11.0, 20.2, 0.1, 10.3):
            show.waiting(lines, 7, silent_s)
    file = console.file
    assert isinstance(file, io.StringIO)

    told = [line for line in file.getvalue().splitlines() if line.startswith("...")]
    assert told == [
        "... waiting for #1, #2, #3 and 2 more for 10 s, 7 more to send",
        "... waiting for #1, #2, #3 and 2 more for 20 s, 7 more to send",
        "... waiting for #1, #2, #3 and 2 more for 10 s, 7 more to send",
    ]
