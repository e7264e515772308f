"""`forebay plan simulate`: what it says of other settings is what the job does under them, and what it recommends."""

import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_jobs.reuse.eligibility import Reuse, nature_of
from forebay_ops.bench.made_up import make_up
from forebay_ops.cli import forebay, plan_sources
from forebay_ops.simulation import nearness
from forebay_schemas import prices
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Hop, Reply

from tests.builders import make_request
from tests.jobs.doubles import LetterEmbedder

from .conftest import Answered
from .made_up import fill


def simulate(*arguments: object) -> Result:
    return CliRunner().invoke(forebay, ["plan", "simulate", *map(str, arguments)])


def figures(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    file = tmp_path / "plan.json"
    result = simulate(*arguments, "--json", file)
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(file.read_text())


def total(found: dict[str, Any], side: str) -> dict[str, Any]:
    return found["sides"][side]["total"]


KINDS = ("exact", "semantic", "joined")

# --- what would have happened ---------------------------------------------------------------------------------------


def test_a_ledger_at_its_own_settings_is_what_it_records(answered: Answered, tmp_path: Path) -> None:
    found = figures(tmp_path)
    recorded, present = total(found, "recorded"), total(found, "present")
    assert recorded["requests"] == 1500
    for name in ("requests", *KINDS, "by_tier"):
        assert present[name] == recorded[name]
    for name in ("cost", "baseline_cost"):
        assert present[name] == pytest.approx(recorded[name])
    assert found["fronts"] == []  # nobody labelled it


def test_what_long_answers_cost_that_went_up_is_what_it_records(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "went up"
    monkeypatch.setenv("FOREBAY_LEDGER__FOLDER", str(folder))
    config = load_config()
    replies = [
        escalated(reply, config) if reply.hops and number % 7 == 0 else reply
        for number, reply in answered.replies().items()
    ]
    fill(config, replies)
    found = figures(tmp_path)
    recorded, present = total(found, "recorded"), total(found, "present")
    assert recorded["cost"] > 1.2 * sum(reply.cost for reply in answered.replies().values())
    assert present["cost"] == pytest.approx(recorded["cost"], rel=0.03)  # it does not know from which lane they went


def escalated(reply: Reply, config: Config) -> Reply:
    """As if its tier had been in doubt, and the largest had said four times as much."""
    first = Hop(tier=reply.tier or "", model_id="", reason="confidence", usage=reply.usage, cost=reply.cost)
    usage = msgspec.structs.replace(reply.usage, completion_tokens=4 * reply.usage.completion_tokens)
    largest = list(config.tiers)[-1]
    cost = reply.cost + prices.cost(usage, config.price(largest), reply.lane)
    return msgspec.structs.replace(reply, path=[first], tier=largest, usage=usage, cost=cost, hops=2)


def test_a_ledger_of_a_policy_that_learns_is_what_it_records_and_a_threshold_in_its_place_is_tried(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_CATEGORIES__SUPPORT__POLICY", "bounded")
    monkeypatch.setenv("FOREBAY_CATEGORIES__SUPPORT__DELTA", "0.05")
    monkeypatch.setenv("FOREBAY_LEDGER__FOLDER", str(tmp_path / "learned"))
    config = load_config()
    fill(config, replace(answered, config=config).replies().values())
    found = figures(tmp_path, "--set", "categories.support.policy=fixed", "--set", "categories.support.similarity=0.99")
    recorded, present, other = (total(found, side) for side in ("recorded", "present", "what if"))
    assert recorded["semantic"] > 20
    assert [present[name] for name in (*KINDS, "by_tier")] == [recorded[name] for name in (*KINDS, "by_tier")]
    assert other["semantic"] != recorded["semantic"]
    assert any("in place of a policy that learns" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("settings", "most_kept"),
    [
        (["categories.support.policy=bounded", "categories.support.delta=0.05"], None),
        (["categories.support.similarity=0.9"], None),
        (["categories.support.similarity=0.995"], None),
        (["categories.support.reuse=exact", "categories.chat.reuse=bypass"], None),
        (["categories.support.exact_ttl_s=400", "categories.support.semantic_ttl_s=500"], None),
        (["categories.support.exact_ttl_s=20", "categories.support.semantic_ttl_s=30"], None),
        (["tiers.small.complexity_up_to=0.2", "categories.forms.tier=large"], None),
        ([], 40),
    ],
)
def test_what_it_says_of_other_settings_is_what_the_job_does_under_them(
    answered: Answered, tmp_path: Path, settings: Sequence[str], most_kept: int | None
) -> None:
    options = [argument for setting in settings for argument in ("--set", setting)]
    options += ["--entries", str(most_kept)] if most_kept else []

    found = total(figures(tmp_path, answered.file, "--like", answered.config.ledger.folder, *options), "what if")

    replies = answered.under(settings, most_kept)
    reused = {kind: sum(reply.cache_status == kind for reply in replies) for kind in KINDS}
    generated = [reply for reply in replies if reply.hops]
    for kind, count in reused.items():
        assert found[kind] == pytest.approx(count, abs=0.01 * len(replies)), kind
    for tier, count in found["by_tier"].items():
        assert count / sum(found["by_tier"].values()) == pytest.approx(
            sum(reply.tier == tier for reply in generated) / len(generated), abs=0.01
        )
    assert found["cost"] == pytest.approx(sum(reply.cost for reply in replies), rel=0.02)
    assert found["baseline_cost"] == pytest.approx(sum(reply.baseline_cost for reply in replies), rel=0.02)


def test_a_ledger_without_texts_says_nearly_the_same_of_a_stricter_threshold(
    answered: Answered, tmp_path: Path
) -> None:
    stricter = ("--set", "categories.support.similarity=0.99")
    by_ledger, by_trace = figures(tmp_path, *stricter), figures(tmp_path, answered.file, *stricter)
    assert total(by_ledger, "what if")["semantic"] < total(by_ledger, "present")["semantic"]
    for name in KINDS:
        assert total(by_ledger, "what if")[name] == pytest.approx(total(by_trace, "what if")[name], abs=8)


def test_what_a_ledger_cannot_tell_is_said(answered: Answered, tmp_path: Path) -> None:
    cases = {
        "categories.support.similarity=0.9": "a threshold below the one that held",
        "categories.support.exact_ttl_s=9000": "longer times to live",
        "categories.support.fresh_s=10": "another freshness objective",
        "categories.forms.reuse=semantic": "more reuse than was allowed",
        "tiers.small.max_tokens=4000": "longer answers",
        "categories.support.delta=0.1": "nothing that is simulated: categories.support.delta (its policy is fixed)",
        "tiers.small.system_prompt=Be brief.": "change nothing that is simulated: tiers.small.system_prompt",
    }
    for setting, words in cases.items():
        notes = figures(tmp_path, "--set", setting)["notes"]
        assert any(words in note for note in notes), setting
    assert not any("threshold" in note for note in figures(tmp_path)["notes"])


def test_prices_change_the_bill_and_nothing_else(answered: Answered, tmp_path: Path) -> None:
    file = tmp_path / "dearer.toml"
    config = answered.config
    file.write_text(
        "\n".join(
            f'[models."{name}".price]\ninput_per_1k = {3 * config.model_price(name).input_per_1k:.9f}\n'
            f"output_per_1k = {3 * config.model_price(name).output_per_1k:.9f}"
            for name in config.models
        )
    )
    found = figures(tmp_path, answered.file, "--what-if", file)
    present, other = total(found, "present"), total(found, "what if")
    assert other["cost"] == pytest.approx(3 * present["cost"])
    assert other["baseline_cost"] == pytest.approx(3 * present["baseline_cost"])
    assert [other[name] for name in (*KINDS, "by_tier")] == [present[name] for name in (*KINDS, "by_tier")]


def test_a_made_up_ledger_of_many_categories_is_simulated_as_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_CONFIG", str(tmp_path / "defaults.toml"))
    (tmp_path / "defaults.toml").touch()
    make_up(tmp_path / "ledger", 20_000, days=4)
    found = figures(tmp_path, tmp_path / "ledger", "--out", tmp_path / "plan.html")
    recorded, present = total(found, "recorded"), total(found, "present")
    assert present["hit_rate"] == pytest.approx(recorded["hit_rate"], abs=0.01)
    assert present["cost"] == pytest.approx(recorded["cost"], rel=0.01)
    assert set(found["sides"]["present"]["categories"]) == {"support", "chat", "extraction", "code"}


# --- what is recommended --------------------------------------------------------------------------------------------


def dominated(point: dict[str, Any], others: Sequence[dict[str, Any]]) -> bool:
    first = point["first"]
    return any(
        other["first"]["cost"] <= first["cost"]
        and other["first"]["loss"] <= first["loss"]
        and (other["first"]["cost"], other["first"]["loss"]) != (first["cost"], first["loss"])
        for other in others
    )


def test_the_cheapest_setting_within_the_loss_is_recommended_on_the_first_part(
    answered: Answered, tmp_path: Path
) -> None:
    found = figures(tmp_path, answered.file, "--max-loss", "1", "--first", "60")
    assert found["chosen_on_requests"] == 900
    assert {front["category"] for front in found["fronts"]} == {"support", "forms", "chat"}
    for front in found["fronts"]:
        tried, recommended = front["tried"], front["recommended"]
        within = [point for point in tried if point["first"]["loss"] <= 0.01]
        assert recommended["first"]["loss"] <= 0.01
        assert recommended["first"]["cost"] == min(point["first"]["cost"] for point in within)
        assert (
            recommended["first"]["requests"] + recommended["second"]["requests"]
            == (found["sides"]["present"]["categories"][front["category"]]["requests"])
        )
        assert not any(dominated(point, tried) for point in front["front"])
        assert front["front"][0]["first"]["cost"] == min(point["first"]["cost"] for point in tried)
    support, forms = (
        next(front for front in found["fronts"] if front["category"] == name) for name in ("support", "forms")
    )
    assert support["present"]["reuse"] == {"policy": "fixed", "similarity": 0.97, "delta": None}
    assert len({point["reuse"]["similarity"] for point in support["tried"]}) > 10
    assert {point["reuse"]["delta"] for point in support["tried"]} == {None, 0.003, 0.01, 0.02}
    assert {point["reuse"]["policy"] for point in forms["tried"]} == {"exact"}  # what is set to exact stays so


def test_the_recommended_settings_can_be_simulated(answered: Answered, tmp_path: Path) -> None:
    output = simulate(answered.file).output
    file = tmp_path / "recommended.toml"
    file.write_text(output[output.index("[tiers.") : output.index("\n- ")])
    found = figures(tmp_path, answered.file, "--what-if", file)
    chosen = {front["category"]: front["present"] for front in found["fronts"]}
    assert chosen == {front["category"]: front["recommended"] for front in figures(tmp_path, answered.file)["fronts"]}


def test_tiers_are_recommended_where_they_are_known_to_answer_right(answered: Answered, tmp_path: Path) -> None:
    """Half of the questions of a category are easy, and short; the small tier answers no other right."""
    hard = "Analyse step by step why {} happens, compare three ways to prevent it, and then justify which one is best; "
    lines = [
        {
            "at_ms": number * 5000,
            "question": f"What is {number}?" if number % 2 else hard.format(number) * 3,
            "category": "mixed" if number % 4 < 2 else "easy",
            "right": {"small": number % 2 == 1 or number % 4 >= 2, "large": True},
            "completion_tokens": 50,
        }
        for number in range(400)
    ]
    trace = tmp_path / "graded.jsonl"
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))

    found = figures(tmp_path, trace)

    mixed, easy = sorted(found["fronts"], key=lambda front: front["category"])[::-1]
    assert easy["recommended"]["tier"] == "small"
    assert mixed["recommended"]["tier"] is None  # by complexity: neither all to the small tier nor all to the large
    for front in (easy, mixed):
        assert front["recommended"]["second"]["loss"] == 0
        assert front["recommended"]["second"]["cost"] < front["recommended"]["second"]["baseline_cost"] / 1.5


class Page(HTMLParser):
    """What a page loads, and how many pictures are in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.pictures = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        self.loaded += [
            value or "" for name, value in attrs if name in ("src", "href") and not (value or "").startswith("#")
        ]


def test_the_page_shows_a_front_for_each_category_and_loads_nothing(answered: Answered, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    assert simulate(answered.file, "--out", page).exit_code == 0
    shown = Page(page.read_text())
    assert (shown.loaded, shown.pictures) == ([], 3)
    assert "chosen on the first 750 requests" in " ".join(page.read_text().split())
    assert simulate("--out", page).exit_code == 0
    assert "none is recommended" in page.read_text()


def test_its_rates_are_taken_by_a_scenario(answered: Answered, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    assert simulate(answered.file, "--measured", rates).exit_code == 0
    result = CliRunner().invoke(forebay, ["plan", "scenario", "--measured", str(rates)])
    assert result.exit_code == 0, result.output
    assert "1,500 requests, simulated (present)" in " ".join(result.output.split())
    unlabelled = simulate("--measured", rates)
    assert "nobody labelled these requests" in str(unlabelled.exception)


# --- what is kept beside a trace ------------------------------------------------------------------------------------


class Failing(LetterEmbedder):
    """Is stopped after some calls."""

    def embed(self, texts: Sequence[str]) -> Any:
        if len(self.batches) == 2:
            raise KeyboardInterrupt
        return super().embed(texts)


def test_questions_are_embedded_once_and_a_stopped_run_goes_on(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearness, "_AT_ONCE", 20)
    embedder = Failing()
    monkeypatch.setattr(plan_sources, "loaded_embedder", lambda *_: embedder)
    assert simulate(answered.file).exit_code != 0
    embedder = LetterEmbedder()
    found = figures(tmp_path, answered.file)
    questions = {str(arrival.fields["question"]) for arrival in answered.arrivals}
    compared = [question for question in questions if nature_of(make_request(question)) is Reuse.SEMANTIC]
    assert sum(embedder.batches) == len(compared) - 40 > 0

    def nobody(*_: object) -> LetterEmbedder:
        raise AssertionError("the model is loaded again")

    monkeypatch.setattr(plan_sources, "loaded_embedder", nobody)
    assert figures(tmp_path, answered.file)["sides"] == found["sides"]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the trace is empty"),
        ('{"at_ms": 0, "question": "Hello?", "tier": 3}', "request 1 of the trace: tier: is no field of a request"),
        ('{"at_ms": 0, "prompt_tokens": 10}', "`forebay replay TRACE --texts FILE --dry-run --write NEW`"),
        ('{"at_ms": 5, "question": "a"}\n{"at_ms": 3, "question": "a"}', "line 2: comes before the line above it"),
        ('{"question": "a"}', "line 1: begins no trace"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_mend(answered: Answered, tmp_path: Path, line: str, words: str) -> None:
    trace = tmp_path / "bad.jsonl"
    trace.write_text(line)
    result = simulate(trace)
    assert result.exit_code != 0
    assert words in str(result.exception)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("categories.support.similarity", "is no setting and value; give one such as"),
        ("categories.support.similarity=0.5", "categories.support.similarity: Input should be greater than"),
        ("categories.support.similarty=0.9", "categories.support.similarty: no such setting"),
        ("tiers.small.model=unheard-of", "tiers.small.model: the model 'unheard-of' is unknown"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(answered: Answered, setting: str, words: str) -> None:
    assert words in str(simulate("--set", setting).exception)


def test_an_empty_ledger_and_an_empty_period_are_refused(answered: Answered, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "is empty; `forebay ledger` fills it" in str(simulate(tmp_path / "nothing").exception)
    assert "give another --since or --until" in str(simulate("--since", "1h").exception)
