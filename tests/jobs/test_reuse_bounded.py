"""Reuse within a bound, on made-up streams whose truth is known."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from forebay_jobs.reuse.bounded import BoundedReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.estimator import prior_for, read_prior, shipped_prior
from forebay_jobs.reuse.learned import INFORMATION, Learned
from forebay_jobs.reuse.neighbourhood import FEATURES, NEAREST, Candidate, features
from forebay_schemas.config import load_config
from forebay_schemas.errors import ConfigError

from tests.jobs.doubles import SharedSums

PRIOR = shipped_prior()
DELTA = 0.02


def candidate(question: str = "Where is my parcel?", similarity: float = 0.99, group: str = "a", **kept: int):
    return Candidate(question=question, similarity=similarity, group=group, **kept)


class World:
    """Requests beside one neighbour, whose answer is right with a chance that its similarity and a number tell.

    Of ``near``, in [0, 1], of them: the others have no neighbour.
    """

    def __init__(self, seed: int, right: Callable[[float, bool], float], near: float = 1.0) -> None:
        self._random = random.Random(seed)
        self._right = right
        self._near = near
        self._number = itertools.count()

    def ask(self, policy: BoundedReuse, count: int) -> tuple[int, int]:
        """Hits and errors among so many requests."""
        hits = errors = 0
        for _ in range(count):
            similarity, same = self._random.uniform(0.7, 1.0), self._random.random() < 0.5
            request_id = f"r{next(self._number)}"
            question = f"How do I order {'3' if same else '4'} pumps?"
            alone = self._random.random() >= self._near
            near = [] if alone else [candidate("How do I order 3 pumps?", similarity)]
            decision = policy.decide(request_id, question, near)
            right = self._random.random() < self._right(similarity, same)
            if decision.reused:
                hits += 1
                errors += not right
            else:
                policy.learn(decision, right)
        return hits, errors


def odds(chance: float) -> float:
    return chance / (1.0 - chance)


def by_number(similarity: float, same: bool) -> float:
    return 0.995 if same and similarity > 0.85 else 0.3


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_and_what_can_be_told_apart_is_reused(seed: int) -> None:
    hits, errors = World(seed, by_number).ask(BoundedReuse(DELTA, PRIOR), 8_000)
    assert errors <= DELTA * 8_000
    assert hits > 0.12 * 8_000  # a quarter could be


def test_where_nothing_can_be_told_apart_hardly_anything_is_reused() -> None:
    hits, errors = World(1, lambda similarity, same: 0.5).ask(BoundedReuse(DELTA, PRIOR), 8_000)
    assert errors <= DELTA * 8_000
    assert hits <= 2.5 * DELTA * 8_000


def test_where_nothing_is_asked_twice_the_bound_holds_from_the_first_request_on() -> None:
    errors = 0
    for seed in range(10):
        world = World(seed, lambda similarity, same: 0.0, near=0.03)
        errors += world.ask(BoundedReuse(0.01, PRIOR), 1_500)[1]
    assert errors <= 0.01 * 15_000


def test_after_a_change_the_bound_holds_again() -> None:
    policy = BoundedReuse(DELTA, PRIOR)
    before, _ = World(2, by_number).ask(policy, 6_000)
    assert before > 600
    changed = World(3, lambda similarity, same: 0.4)
    changed.ask(policy, 1_000)
    _, errors = changed.ask(policy, 2_000)
    assert errors <= DELTA * 2_000 + 1.96 * (DELTA * 2_000) ** 0.5


def test_what_was_not_granted_yet_is_never_spent() -> None:
    policy = BoundedReuse(0.01, PRIOR)
    charged = 0.0
    for number in range(1, 2_000):
        decision = policy.decide(f"r{number}", "Where is my parcel?", [candidate()])
        charged += decision.charge if decision.reused else 0.0
        assert charged <= 0.01 * number
    assert charged > 0.5 * 0.01 * 2_000  # all are alike, and still a part of them is had


def test_the_same_requests_meet_the_same_fate() -> None:
    def verdicts() -> list[Verdict]:
        policy = BoundedReuse(0.2, PRIOR)
        return [policy.decide(f"r{number}", "Where is it?", [candidate()]).verdict for number in range(3_000)]

    first = verdicts()
    assert first == verdicts()
    willing = [verdict for verdict in first if verdict in (Verdict.REUSED, Verdict.AUDITED)]
    assert 0.025 < willing.count(Verdict.AUDITED) / len(willing) < 0.055


def test_it_goes_on_where_it_stopped() -> None:
    policy, taught, again = (BoundedReuse(DELTA, PRIOR) for _ in range(3))
    World(4, by_number).ask(taught, 2_000)
    store = SharedSums()
    store.sync(taught)
    store.sync(again)
    near, question = [candidate("How do I order 3 pumps?", 0.95)], "How do I order 4 pumps?"
    untaught, before, after = (one.decide("r", question, near).wrong for one in (policy, taught, again))
    assert untaught is not None
    assert before is not None
    assert after is not None
    assert after == pytest.approx(before, rel=0.1)
    assert odds(after) > 2 * odds(untaught)


@pytest.mark.parametrize("every", [1, 5, 1_000])
def test_old_labels_fade_however_often_processes_meet(every: int) -> None:
    store, learned = SharedSums(), Learned()
    first = slice(INFORMATION.start, INFORMATION.start + 1)
    learned.add(first, 1e6)  # so much that new labels do not show
    policy = BoundedReuse(DELTA, PRIOR, learned)
    for number in range(200):
        policy.learn(policy.decide(f"r{number}", "Where is it?", [candidate()]), right=False)
        if not number % every:
            store.sync(policy)
    assert learned.number(first) == pytest.approx(1e6 * 0.5 ** (200 / 2_000), rel=0.01)


def test_processes_share_what_they_learn_and_what_they_spend() -> None:
    store = SharedSums()
    policies = [BoundedReuse(DELTA, PRIOR) for _ in range(3)]
    worlds = [World(seed, by_number) for seed in range(3)]
    hits = errors = 0
    for _ in range(40):
        for policy, world in zip(policies, worlds, strict=True):
            asked = world.ask(policy, 100)
            hits, errors = hits + asked[0], errors + asked[1]
            store.sync(policy)
    assert errors <= DELTA * 12_000
    assert hits > 0.1 * 12_000


def test_nothing_near_is_decided_and_teaches_nothing() -> None:
    policy, learned = BoundedReuse(DELTA, PRIOR), Learned()
    for near in ([], [candidate(similarity=0.69)]):
        decision = policy.decide("r", "Where is my parcel?", near)
        assert decision == Decision(verdict=Verdict.NOTHING_NEAR, policy="bounded")
        policy.learn(decision, right=True)
    assert np.count_nonzero(learned[slice(None)]) == 0


def test_a_decision_waits_for_its_label_as_bytes() -> None:
    decision = BoundedReuse(DELTA, PRIOR).decide("r", "Where is it?", [candidate(similarity=0.8)])
    assert decision.verdict is Verdict.TOO_UNSURE or decision.verdict is Verdict.BUDGET_SPENT
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decision), type=Decision) == decision


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_a_delta_that_is_no_share_is_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match="give a share such as"):
        BoundedReuse(delta, PRIOR)


# The neighbourhood


def place(name: str, near: list[Candidate]) -> float:
    vector = features("Where is my parcel?", near)
    assert vector is not None
    return vector[FEATURES.index(name)]


def test_what_lies_around_the_nearest_is_seen() -> None:
    near = [candidate(right=2, wrong=1), candidate(similarity=0.9), candidate(similarity=0.8, group="b")]
    assert (place("in_group", near), place("out_of_group", near)) == (1, 1)
    assert place("lead_on_group", near) == pytest.approx(0.9)
    assert place("lead_on_rivals", near) == pytest.approx(1.9)
    assert place("was_right", near) > place("was_wrong", near) > 0


def test_no_more_than_the_nearest_count() -> None:
    near = [candidate(similarity=0.9 - number / 100) for number in range(NEAREST + 3)]
    assert features("Where is it?", near) == features("Where is it?", near[:NEAREST])


# The prior


@pytest.mark.parametrize("change", [{"features": ["bias"]}, {"mean": [0.0]}, {"precision": [[1.0]]}])
def test_a_prior_for_something_else_is_refused(change: dict[str, object]) -> None:
    fields = msgspec.to_builtins(PRIOR) | change
    with pytest.raises(ValueError, match="fit it anew"):
        read_prior(msgspec.json.encode(fields))


def test_beside_another_embedding_model_reuse_begins_stricter_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = load_config()
    assert prior_for(config) == PRIOR
    other = config.model_copy(update={"embedding": config.embedding.model_copy(update={"model": "some/other"})})
    policy = BoundedReuse(0.02, prior_for(other))
    assert "semantic.prior" in caplog.text
    usual = BoundedReuse(0.02, PRIOR)
    decided: dict[BoundedReuse, list[Decision]] = {policy: [], usual: []}
    for number in range(600):
        for one, decisions in decided.items():
            decisions.append(one.decide(f"r{number}", "Where is it?", [candidate()]))
            if not decisions[-1].reused:
                one.learn(decisions[-1], right=True)
    assert odds(decided[policy][0].wrong or 0) > 2 * odds(decided[usual][0].wrong or 0)
    hits = [[one.reused for one in decisions] for decisions in decided.values()]
    assert sum(hits[0][:100]) < sum(hits[1][:100]) * 0.7
    assert sum(hits[0][500:]) > sum(hits[1][500:]) * 0.75  # labels soon say more


def test_a_prior_of_ones_own_is_read_and_a_file_that_is_none_refused(tmp_path: Path) -> None:
    own = tmp_path / "prior.json"
    own.write_bytes(msgspec.json.encode(msgspec.structs.replace(PRIOR, models=["some/other"])))
    config = load_config()
    other = config.embedding.model_copy(update={"model": "some/other"})
    semantic = config.semantic.model_copy(update={"prior": own})
    assert prior_for(config.model_copy(update={"embedding": other, "semantic": semantic})).mean == PRIOR.mean
    own.write_text("{}")
    with pytest.raises(ConfigError, match=r"semantic.prior: .*forebay eval prior"):
        prior_for(config.model_copy(update={"semantic": semantic}))
