"""`forebay plan validate`: the simulation says of every request what the job does, and learns from none later."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_jobs.router.weights import encoded
from forebay_ops.cli import forebay
from forebay_ops.replay.run import Run
from forebay_ops.routing.training import prepared, train
from forebay_ops.simulation.ledger import read_ledger
from forebay_ops.simulation.play import STATUSES, play
from forebay_ops.simulation.trace import read_traffic
from forebay_ops.simulation.validation import as_learned
from forebay_ops.simulation.whatif import what_if
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheStatus, Latency, Reply, Usage

from tests.jobs.doubles import LetterEmbedder

from .conftest import RUN, Answered
from .made_up import fill
from .routing_labels import labels_in, write


def validate(*arguments: object) -> Result:
    return CliRunner().invoke(forebay, ["plan", "validate", *map(str, arguments)])


def figures(trace: Path, tmp_path: Path, *arguments: object) -> dict[str, Any]:
    file = tmp_path / "figures.json"
    result = validate(trace, *arguments, "--run", RUN, "--json", file)
    assert file.exists(), result.output
    return json.loads(file.read_text())


@pytest.mark.parametrize(
    ("settings", "most_kept"),
    [
        ((), None),
        ((), 60),
        (
            ("categories.support.policy=bounded", "categories.support.delta=0.05", "categories.chat.policy=adaptive"),
            None,
        ),
    ],
)
def test_it_says_of_every_request_what_the_job_does(
    answered: Answered, settings: Sequence[str], most_kept: int | None
) -> None:
    config, _ = what_if(answered.config, None, settings)
    config = config.model_copy(
        update={"ledger": config.ledger.model_copy(update={"folder": answered.file.with_name("once more")})}
    )
    replies = replace(answered, config=config).replies(most_kept)
    fill(config, replies.values())
    trace, _ = read_traffic(answered.file, config, "acme", 100, LetterEmbedder, lambda _: None)
    trace, behaviour = as_learned(trace, read_ledger(config.ledger.folder, config, run=RUN), config)

    played = play(trace, config, behaviour, most_kept, RUN)

    simulated = [(STATUSES[status], source + 1) for status, source in zip(played.status, played.source, strict=True)]
    done = [
        (reply.cache_status, Run(RUN).number(reply.matched_request_id) or number)
        for number, reply in sorted(replies.items())
    ]
    assert simulated == done
    assert min(sum(status is each for status, _ in done) for each in CacheStatus) > 15  # all of it is tried


def test_what_learned_weights_say_of_a_question_is_simulated_too(answered: Answered, tmp_path: Path) -> None:
    questions = sorted({str(arrival.fields["question"]) for arrival in answered.arrivals})
    labels = [
        {"prompt": question, "small_correct": len(question) % 2 == 0, "large_correct": len(question) % 4 > 0}
        for question in questions
    ]
    read = labels_in(write(tmp_path / "labels.jsonl", labels))
    data = prepared(read, LetterEmbedder().embed(read.prompts))
    weights = tmp_path / "weights.msgpack"
    weights.write_bytes(encoded(train(data, [answered.config.embedding.model], "a test")))
    config, _ = what_if(answered.config, None, [f"router.weights={weights}"])
    trace, _ = read_traffic(answered.file, config, "acme", 100, LetterEmbedder, lambda _: None)
    places = trace.case.tolist()

    routes = {number: reply.route for number, reply in replace(answered, config=config).replies().items() if reply.hops}

    assert {number: trace.cases[places[number - 1]].complexity for number in routes} == {
        number: route and route.complexity for number, route in routes.items()
    }
    assert sum("chance.small" in route.features for route in routes.values() if route) > 100


def test_the_later_half_is_predicted_from_the_first_within_the_goal(answered: Answered, tmp_path: Path) -> None:
    found = figures(answered.file, tmp_path)
    assert (found["learned"], found["compared"], found["unanswered"]) == (750, 750, 0)
    later = [reply for number, reply in answered.replies().items() if number > 750]
    recorded = {figure["what"]: figure["recorded"] for figure in found["figures"]}
    assert recorded["hit rate"] == pytest.approx(sum(reply.hops == 0 for reply in later) / 750)
    assert recorded["cost"] == pytest.approx(sum(reply.cost for reply in later))
    assert all(figure["met"] for figure in found["figures"])


def test_nothing_of_the_later_replies_is_known_to_the_prediction(
    answered: Answered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = figures(answered.file, tmp_path)["figures"]
    folder = tmp_path / "otherwise"
    monkeypatch.setenv("FOREBAY_LEDGER__FOLDER", str(folder))
    fill(load_config(), [_otherwise(reply) if number > 750 else reply for number, reply in answered.replies().items()])

    other = figures(answered.file, tmp_path, folder)["figures"]

    assert [figure["predicted"] for figure in other] == [figure["predicted"] for figure in honest]
    assert [figure["recorded"] for figure in other] != [figure["recorded"] for figure in honest]
    assert not all(figure["met"] for figure in other)


def _otherwise(reply: Reply) -> Reply:
    """As if a larger tier had taken longer over a longer answer, for everybody."""
    return msgspec.structs.replace(
        reply,
        cache_status=CacheStatus.MISS,
        matched_request_id=None,
        similarity=None,
        hops=1,
        tier="large",
        finish_reason="length",
        usage=Usage(prompt_tokens=500, completion_tokens=500),
        latency=Latency(total_ms=9_000),
        cost=1.0,
        baseline_cost=2.0,
    )


def test_a_scenario_takes_the_rates_of_the_later_part(answered: Answered, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    assert validate(answered.file, "--run", RUN, "--measured", rates).exit_code == 0
    measured = json.loads(rates.read_text())
    labels = {number: arrival.label for number, arrival in enumerate(answered.arrivals, start=1)}
    later = {number: reply for number, reply in answered.replies().items() if number > 750}
    wrong = sum(
        labels[number] != labels[Run(RUN).number(reply.matched_request_id) or 0]
        for number, reply in later.items()
        if reply.hops == 0
    )
    assert measured["wrong_share"] == pytest.approx(wrong / 750)
    scenario = CliRunner().invoke(forebay, ["plan", "scenario", "47k", "--measured", str(rates)])
    assert scenario.exit_code == 0, scenario.output
    assert f"the replay {RUN} of trace.jsonl, its last 750 answers" in scenario.output


def test_other_settings_than_those_of_the_replay_are_found_out(
    answered: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_CATEGORIES__SUPPORT__EXACT_TTL_S", "1")
    monkeypatch.setenv("FOREBAY_CATEGORIES__SUPPORT__REUSE", "exact")
    result = validate(answered.file, "--run", RUN)
    assert result.exit_code == 1
    assert "missed" in result.output


def test_a_ledger_of_another_trace_is_refused(answered: Answered, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_bytes(b"".join(answered.file.read_bytes().splitlines(keepends=True)[:100]))
    for arguments, words in (
        ((short, "--run", RUN), "give the trace as it was played (`forebay replay --write`)"),
        ((answered.file, "--run", "r2"), "no answer"),
        ((answered.file, "--run", RUN, "--first", "99.99"), "give a smaller --first"),
    ):
        result = validate(*arguments)
        assert words in " ".join(str(result.exception).split())
