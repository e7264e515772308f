"""`forebay eval` on made-up streams, and on the public ones where they are at hand."""

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from forebay_jobs.reuse.estimator import Prior, read_prior, shipped_prior
from forebay_jobs.reuse.neighbourhood import FEATURES
from forebay_ops.cli.eval import eval_
from forebay_ops.evaluation import streams
from forebay_ops.evaluation.admission import RULES, SIZES
from forebay_ops.evaluation.compare import BOUNDED, HINDSIGHT, compare, most_errors, settled
from forebay_ops.evaluation.playing import Conditions, Equality, Keeper, Near, Played, order_of, play
from forebay_ops.evaluation.policies import FixedThresholds, best_within
from forebay_ops.evaluation.streams import Half, Preparer, Stream, StreamError, read_questions
from forebay_ops.evaluation.vcache import VcachePlayer, exploration, fit

CALM = Conditions()
TOPICS, DETAILS = 60, 8


class Embedder:
    """Texts `TOPIC DETAIL` near each other by topic."""

    def embed(self, texts: Any) -> Any:
        vectors = np.array([self._vector(*text.split()) for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _vector(self, topic: str, detail: str) -> Any:
        middle = np.random.default_rng(int(topic[1:])).normal(size=32)
        return middle + 0.25 * np.random.default_rng(hash_of(topic, detail)).normal(size=32)


def hash_of(topic: str, detail: str) -> int:
    return int(topic[1:]) * 1_000 + int(detail[1:])


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Questions whose topic tells the answer, but for one topic in six, where every question has its own."""
    drawn = random.Random(seed)
    found = []
    for _ in range(count):
        topic, detail = drawn.randrange(TOPICS), drawn.randrange(400)
        text = f"t{topic} d{detail}"
        found.append({"text": text, "class": text if topic % 6 == 0 else f"t{topic}"})
    return found


def write(file: Path, lines: list[Any]) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())
    return file


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Preparer(Embedder, "made-up", tmp_path, lambda what: None).stream(write(tmp_path / "a.jsonl", rows(4_000)))


# Streams


def test_the_nearest_are_exact_and_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl.gz", rows(300))
    said: list[str] = []
    first = Preparer(Embedder, "made-up", tmp_path / "kept", said.append).stream(file)
    vectors = Embedder().embed(first.texts)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    np.testing.assert_allclose(first.similarities, -np.sort(-cosines, axis=1)[:, : streams.NEAREST_KEPT], atol=1e-5)
    assert any("embedded" in what for what in said)

    def refuse() -> Embedder:
        raise AssertionError("embedded again")

    again = Preparer(refuse, "made-up", tmp_path / "kept", said.append).stream(file)
    np.testing.assert_array_equal(again.near, first.near)


def test_the_halves_share_no_class_and_leave_none_out(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", rows(500))
    (every, all_), (dev, ours), (held_out, others) = (read_questions(file, half) for half in Half)
    assert sorted(dev + held_out) == sorted(every)
    assert set(ours).isdisjoint(others)
    assert set(ours) | set(others) == set(all_)
    assert min(len(dev), len(held_out)) > 150


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"text": "a"}, {"text": "b"}], "line 1: label: is absent"),
        ([{"class": "a"}], "give the question"),
        (["{"], "line 1: is no JSON"),
        ([{"text": "a", "class": "b"}], "holds 1 questions to play"),
        ([], "holds 0 questions to play"),
    ],
)
def test_what_is_no_labelled_stream_is_refused(tmp_path: Path, lines: list[Any], words: str) -> None:
    with pytest.raises(StreamError) as error:
        read_questions(write(tmp_path / "a.jsonl", lines))
    assert words in str(error.value)
    assert "a.jsonl" in str(error.value)


# Playing


class Recorder:
    """Reuses nothing, and notes what it is told and when."""

    keeps_all = True

    def __init__(self, reuses: bool = False) -> None:
        self.heard: list[tuple[str, int]] = []
        self.near: dict[int, list[int]] = {}
        self._reuses = reuses

    def ask(self, place: int, near: Any) -> bool:
        self.heard.append(("asked", place))
        self.near[place] = [one.place for one in near]
        return self._reuses

    def label(self, place: int, right: bool) -> bool:
        self.heard.append(("right" if right else "wrong", place))
        return True


def played(stream: Stream, player: Any, conditions: Conditions = CALM) -> Played:
    order = order_of(stream, None)
    return play(stream, order, player, Equality(stream, conditions, 0), conditions, 0, lambda asked: None)


def test_no_label_comes_before_its_question_or_its_time(stream: Stream) -> None:
    prompt, late = Recorder(), Recorder()
    played(stream, prompt)
    played(stream, late, Conditions(label_delay=7))
    for recorder, delay in ((prompt, 0), (late, 7)):
        asked = {place: number for number, (what, place) in enumerate(recorder.heard) if what == "asked"}
        steps = 0
        for what, place in recorder.heard:
            if what == "asked":
                steps += 1
            else:
                assert steps - 1 == place + delay
        assert len(asked) == len(stream)
    assert all(one < place for place, near in prompt.near.items() for one in near)


def test_what_was_reused_is_not_cached_and_has_no_label(stream: Stream) -> None:
    recorder = Recorder(reuses=True)
    found = played(stream, recorder)
    hits = set(np.flatnonzero(found.reused).tolist())
    assert hits
    assert hits.isdisjoint({one for near in recorder.near.values() for one in near})
    assert found.labels == 0
    assert all(what == "asked" for what, _ in recorder.heard)


def test_a_mistaken_judge_does_not_change_what_is_an_error(stream: Stream) -> None:
    calm, noisy = Recorder(), Recorder()
    played(stream, calm)
    played(stream, noisy, Conditions(judge_noise=0.1))
    changed = np.mean([one != other for one, other in zip(calm.heard, noisy.heard, strict=True) if one[0] != "asked"])
    assert 0.07 < changed < 0.13
    assert played(stream, Recorder(True), Conditions(judge_noise=0.5)).errors == played(stream, Recorder(True)).errors


def test_a_change_splits_what_was_equal_and_nothing_else(stream: Stream) -> None:
    before, after = (Equality(stream, Conditions(change_at=share), 0) for share in (1.0, 0.0))
    pairs = [(int(one), int(other)) for one, row in enumerate(stream.near[:, :3]) for other in row]
    were = [before.right(0, *pair) for pair in pairs]
    still = [after.right(0, *pair) for pair in pairs]
    assert not any(now and not then for now, then in zip(still, were, strict=True))
    assert 0.45 < sum(still) / sum(were) < 0.55


def test_a_fixed_threshold_reuses_the_nearest_that_is_cached(stream: Stream) -> None:
    class Fixed(Recorder):
        def ask(self, place: int, near: Any) -> bool:
            return bool(near) and near[0].similarity >= 0.9

    order = order_of(stream, 3)
    equality = Equality(stream, CALM, 0)
    slow = play(stream, order, Fixed(), equality, CALM, 0, lambda asked: None)
    quick = FixedThresholds(stream, order, equality).play(0.9)
    np.testing.assert_array_equal(quick.reused, slow.reused)
    np.testing.assert_array_equal(quick.wrong, slow.wrong)
    assert 0 < quick.errors < quick.hits < 1


def test_hindsight_takes_most_hits_within_delta() -> None:
    def made(hits: int, errors: int) -> Played:
        return Played(np.arange(100) < hits, np.arange(100) < errors, 0)

    found = {0.8: made(50, 9), 0.9: made(30, 2), 0.95: made(20, 2), 0.99: made(4, 0)}
    assert best_within(found, 0.02) == 0.9
    assert best_within(found, 0.01) == 0.99


def test_the_window_after_a_change_is_the_last_before_it_has_to_have_settled() -> None:
    wrong = np.zeros(10_000, dtype=np.bool_)
    wrong[5_000:6_000] = True
    found = Played(wrong, wrong, 0)
    assert settled(found, 5_000, 0.01)
    wrong[7_900 : 7_900 + int(most_errors(0.01)) + 1] = True
    assert not settled(found, 5_000, 0.01)


# vCache


def test_vcache_explores_less_the_more_its_labels_tell() -> None:
    similarities = np.array([0.0, 1.0, 0.8, 0.82, 0.96, 0.97, 0.98, 0.95])
    rights = np.array([0, 1, 0, 0, 1, 1, 1, 1], dtype=float)
    curve = fit(similarities, rights)
    assert 0.82 < curve.threshold < 0.95
    taus = [exploration(similarity, curve, 0.02) for similarity in (0.85, 0.9, 0.95, 1.0)]
    assert taus == sorted(taus, reverse=True)
    assert taus[0] > 0.9
    assert exploration(1.0, curve, 0.1) < exploration(1.0, curve, 0.02)


def test_vcache_takes_a_mixed_entry_for_what_it_is() -> None:
    similarities = np.array([0.0, 1.0, *np.linspace(0.8, 0.99, 20)])
    mixed = fit(similarities, np.array([0, 1, *([1, 0] * 10)], dtype=float))
    assert exploration(0.97, mixed, 0.02) > 0.9


def test_vcache_generates_until_an_entry_has_labels() -> None:
    player = VcachePlayer(delta=0.5, seed=0)
    for place in range(1, 5):
        assert not player.ask(place, [Near(0, 0.99)])
        player.label(place, right=True)
    assert any(player.ask(place, [Near(0, 0.99)]) for place in range(5, 30))


# All together


def test_the_bound_holds_with_more_hits_than_a_threshold(stream: Stream) -> None:
    found = compare(
        stream,
        deltas=[0.02],
        seeds=[1, 2],
        conditions=CALM,
        prior=shipped_prior(),
        with_vcache=True,
        say=lambda what: None,
    )
    of = {row.policy: row for row in found.rows}
    assert of[BOUNDED].holds
    assert of[HINDSIGHT].of_hindsight == 1
    assert of[BOUNDED].hits > of["vCache"].hits
    assert of[BOUNDED].errors_interval.low < of[BOUNDED].errors < of[BOUNDED].errors_interval.high
    assert (found.questions, found.shuffles) == (4_000, 2)


def test_a_stream_that_ends_soon_after_the_change_is_refused(stream: Stream) -> None:
    with pytest.raises(StreamError, match="let it change earlier"):
        compare(
            stream,
            deltas=[0.02],
            seeds=[1],
            conditions=Conditions(change_at=0.5),
            prior=shipped_prior(),
            with_vcache=False,
            say=lambda what: None,
        )


# The commands


@pytest.fixture
def made_up_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay_ops.cli.eval.loaded_embedder", lambda *_: Embedder())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(eval_, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("made_up_model")
def test_it_prints_the_table_and_writes_the_figures_and_the_page(tmp_path: Path) -> None:
    file, out, page = write(tmp_path / "desk.jsonl", rows(600)), tmp_path / "o.json", tmp_path / "o.html"
    result = run("reuse", "--data", file, "--delta", 0.02, "--cache", tmp_path, "--out", out, "--page", page)
    assert result.exit_code == 0, result.output
    for words in ("desk, 600 questions", "fixed 0.95", "best fixed", "vCache", "bounded", "a decision took"):
        assert words in result.output
    (comparison,) = json.loads(out.read_text())
    assert {row["policy"] for row in comparison["rows"] if row["delta"]} == {"best fixed", "vCache", "bounded"}
    assert page.read_text().count("<svg") == 3


@pytest.mark.usefixtures("made_up_model")
def test_a_prior_that_was_fitted_can_be_used(tmp_path: Path) -> None:
    file, out = write(tmp_path / "desk.jsonl", rows(600)), tmp_path / "prior.json"
    assert run("prior", "--data", file, "--out", out, "--cache", tmp_path).exit_code == 0
    fitted: Prior = read_prior(out.read_bytes())
    assert fitted.source == "forebay eval prior --data desk.jsonl"
    assert np.linalg.eigvalsh(np.array(fitted.precision)).min() > 0
    own_out = tmp_path / "own.json"
    assert run("prior", "--data", file, "--own", "--out", own_out, "--cache", tmp_path).exit_code == 0
    own = read_prior(own_out.read_bytes())
    assert own.source == "forebay eval prior --data desk.jsonl --own"
    bias = FEATURES.index("bias")
    assert own.mean[bias] > fitted.mean[bias]
    assert np.linalg.inv(own.precision)[bias, bias] < np.linalg.inv(fitted.precision)[bias, bias]
    result = run(
        "reuse", "--data", file, "--delta", 0.02, "--no-vcache", "--prior", out, "--cache", tmp_path, "--shuffles", 2
    )
    assert result.exit_code == 0, result.output
    assert "mean of 2 shuffles" in result.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [("--delta", "1", "--delta"), ("--delta", "0", "--delta"), ("--prior", "absent.json", "forebay eval prior")],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, option: str, value: str, words: str) -> None:
    result = run("reuse", "--data", write(tmp_path / "a.jsonl", rows(10)), option, value)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.model
def test_the_shipped_prior_is_what_the_command_makes_of_its_data(tmp_path: Path) -> None:
    folder = os.environ.get("EVAL_DATA")
    if folder is None:
        pytest.skip("EVAL_DATA names no folder with banking77_train.jsonl.gz")
    out = tmp_path / "prior.json"
    result = run("prior", "--data", Path(folder) / "banking77_train.jsonl.gz", "--out", out)
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(read_prior(out.read_bytes()).mean, shipped_prior().mean, atol=0.02)


@pytest.mark.model
def test_the_goals_are_met_on_a_public_stream() -> None:
    folder = os.environ.get("EVAL_DATA")
    if folder is None:
        pytest.skip("EVAL_DATA names no folder with banking77_test.jsonl.gz")
    result = run("reuse", "--data", Path(folder) / "banking77_test.jsonl.gz", "--shuffles", 5, "--no-vcache")
    assert result.exit_code == 0, result.output
    assert "missed" not in result.output
    assert result.output.count("met") == 3


# Admission


def test_what_a_keeper_leaves_out_or_drops_is_not_found(stream: Stream) -> None:
    class Few(Keeper):
        def __init__(self) -> None:
            self.reuses: list[int] = []

        def admits(self, step: int, place: int) -> bool:
            return place % 2 == 0

        def reused(self, place: int) -> None:
            self.reuses.append(place)

        def drops(self, step: int) -> list[int]:
            return [0]

    keeper, player = Few(), Recorder(reuses=True)
    order, equality = order_of(stream, None), Equality(stream, CALM, 0)
    found = play(stream, order, player, equality, CALM, 0, lambda asked: None, keeper)
    near = {place for places in player.near.values() for place in places}
    assert all(place % 2 == 0 and place for place in near)
    assert set(keeper.reuses) <= near
    assert len(keeper.reuses) == found.reused.sum() > 0
    assert found.cached == sum(place % 2 == 0 for place in np.flatnonzero(~found.reused).tolist() if place)


@pytest.mark.usefixtures("made_up_model")
def test_admission_prints_entries_and_hits_of_every_rule_beside_eviction(tmp_path: Path) -> None:
    file, out = write(tmp_path / "a.jsonl", rows(1_500)), tmp_path / "out.json"
    result = run("admission", "--data", file, "--cache", tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    (measured,) = json.loads(out.read_text())
    found = {one["rule"]: one for one in measured["outcomes"]}
    assert list(found)[: len(RULES)] == list(RULES)
    everything = found["everything"]
    assert everything["hits"] > 0.05
    assert all(rule in result.output for rule in found)
    assert found["no number"]["entries"] == 0  # every question here has one
    for share in SIZES:
        assert found[f"everything, evicted to {share:.0%}"]["entries"] == pytest.approx(
            share * everything["entries"], rel=0.02
        )
    assert found["every other, at random"]["hits"] < everything["hits"]
