"""Which passages go to the model: near the question, within the budget, in their order; and all where in doubt."""

from collections.abc import Sequence
from typing import Any

import pytest
from forebay_jobs.pruning import Pruner, choose
from forebay_jobs.relevance import Asked
from forebay_schemas.categories import CategoryConfig, PruningConfig
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Message, ReplyError, Request
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import make_request
from tests.jobs.doubles import CODEC, DeskRig, LetterEmbedder, an_arrival, metrics, only_task, reply_to

QUESTION = "abc abc?"  # near is what has the same letters
NEAR, NEARER, FAR = "a b c z", "abc", "xyz"


def configured(**settings: Any) -> Config:
    pruned = CategoryConfig(pruning=PruningConfig(**{"min_similarity": 0.5, "max_tokens": 100, **settings}))
    ranked = CategoryConfig(pruning=PruningConfig(cross_encoder="ranker", min_similarity=0.4))
    return load_config().model_copy(update={"categories": {"rag": pruned, "ranked": ranked}})


def ask(*passages: str, **fields: Any) -> Request:
    return make_request(QUESTION, **{"category": "rag", "passages": list(passages), **fields})


class LengthScorer:
    """Finds that of two passages the longer one matters more; grasps no question of more than ten letters."""

    def grasps(self, questions: Sequence[str]) -> list[bool]:
        return [len(question) <= 10 for question in questions]

    def score(self, asked: Sequence[Asked]) -> list[list[float]]:
        return [[len(passage) / 10 for passage in one.passages] for one in asked]


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.embedder = LetterEmbedder()
        self.metrics = metrics()
        self.pruner = Pruner(configured(**settings), CODEC, self.embedder, {"ranker": LengthScorer()}, self.metrics)

    def prune(self, *requests: Request) -> list[list[str]]:
        sent = self.pruner.prune([an_arrival(request) for request in requests])
        return [CODEC.decode(one, Request).passages for one in sent]

    def counts(self) -> tuple[float, ...]:
        passages = self.metrics.passages
        counters = (passages.labels("kept"), passages.labels("left_out"), self.metrics.passage_tokens_saved)
        return tuple(counter._value.get() for counter in counters)


def test_passages_that_matter_are_kept_in_their_order_and_nothing_else_changes() -> None:
    rig = Rig()
    request = ask(NEAR, FAR, NEARER, "x y z", metadata={"k": "v"})
    (sent,) = rig.pruner.prune([an_arrival(request)])
    assert CODEC.decode(sent, Request) == ask(NEAR, NEARER, metadata={"k": "v"})
    assert rig.counts() == (2, 2, 4)


@pytest.mark.parametrize(
    ("scores", "tokens", "kept"),
    [
        ([0.9, 0.8, 0.7], [10, 10, 10], [0, 1]),
        ([0.7, 0.8, 0.9], [10, 10, 10], [1, 2]),
        ([0.9, 0.8, 0.7], [15, 10, 5], [0, 2]),  # what does not fit makes room for what does
        ([0.9], [21], []),
        ([0.5, 0.49], [1, 1], [0]),
        ([0.6, 0.6, 0.6], [10, 10, 10], [0, 1]),
        ([], [], []),
    ],
)
def test_the_nearest_passages_come_first_into_the_budget(
    scores: list[float], tokens: list[int], kept: list[int]
) -> None:
    assert choose(scores, tokens, PruningConfig(min_similarity=0.5, max_tokens=20)) == kept


@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 50)), max_size=20), st.integers(16, 100))
def test_what_is_kept_fits_and_what_fits_beside_it_is_kept(passages: list[tuple[float, int]], budget: int) -> None:
    similarities, tokens = [one for one, _ in passages], [one for _, one in passages]
    kept = choose(similarities, tokens, PruningConfig(min_similarity=0.0, max_tokens=budget))
    spent = sum(tokens[place] for place in kept)
    assert spent <= budget
    for place in range(len(passages)):
        assert place in kept or similarities[place] < 0 or spent + tokens[place] > budget


def test_all_requests_of_a_tick_are_embedded_in_one_batch_and_kept_apart() -> None:
    rig = Rig()
    requests = [ask(FAR, NEAR), ask(), ask(NEARER), make_request(passages=[FAR]), ask(FAR)]
    assert rig.prune(*requests) == [[NEAR], [], [NEARER], [FAR], []]
    assert rig.embedder.batches == [4]  # the question and three passages, however often they come
    assert rig.prune() == []


@pytest.mark.parametrize(
    "request_",
    [
        make_request(QUESTION, passages=[FAR]),
        ask(FAR, messages=[Message(role="user", content="abc \u2603")]),
        ask(FAR, messages=[Message(role="user", content="abc"), Message(role="assistant", content="So")]),
    ],
    ids=["its category does not prune", "the model does not grasp the question", "there is no question"],
)
def test_where_passages_cannot_or_must_not_be_judged_all_are_shown(request_: Request) -> None:
    rig = Rig()
    assert rig.prune(request_, ask(FAR)) == [[FAR], []]
    assert rig.counts() == (0, 1, 1)


def test_each_category_is_judged_by_its_own_model() -> None:
    rig = Rig()
    too_long = Message(role="user", content=f"{QUESTION} {QUESTION}")
    requests = [
        ask(FAR, NEAR, category="ranked"),
        ask(FAR, NEAR),
        ask(FAR, "so long", NEARER, category="ranked"),
        ask(FAR, category="ranked", messages=[too_long]),
        ask(FAR),
    ]
    assert rig.prune(*requests) == [[NEAR], [NEAR], ["so long"], [FAR], []]
    assert rig.embedder.batches == [3]  # the question and two passages
    assert rig.counts() == (3, 5, 5)


def test_a_model_that_fails_leaves_all_as_they_are() -> None:
    rig = Rig()
    rig.embedder.broken = True
    assert rig.prune(ask(FAR, NEAR)) == [[FAR, NEAR]]
    assert rig.metrics.store_up.labels("pruning")._value.get() == 0


def test_a_request_that_cannot_be_read_spoils_no_other() -> None:
    arrivals = [an_arrival(ask(FAR), request=b"garbage"), an_arrival(ask(FAR))]
    garbage, sent = Rig().pruner.prune(arrivals)
    assert garbage == b"garbage"
    assert CODEC.decode(sent, Request).passages == []


def test_the_task_holds_what_is_kept_and_the_caches_know_the_whole_request() -> None:
    rig = DeskRig(configured())
    request = ask(FAR, NEAR, request_id="leader")
    rig.arrive(request)
    rig.arrive(ask(NEAR, request_id="other"))  # which is another request, whatever is left of the first
    first, second = rig.tick()
    for sent in (first, second):
        assert CODEC.decode(only_task([sent]).request, Request).passages == [NEAR]
    rig.settle(only_task([first]))
    assert set(rig.answers.answers) == {an_arrival(request).digest}


def test_a_follower_that_takes_the_lead_asks_with_the_same_passages() -> None:
    rig = DeskRig(configured())
    for request_id in ("leader", "heir"):
        rig.arrive(ask(FAR, NEAR, request_id=request_id))
    task = only_task(rig.tick())
    failed = reply_to(task, error=ReplyError(code="engine_failed", message="", retryable=True))
    promoted = only_task(rig.settle(task, failed))
    assert CODEC.decode(promoted.request, Request) == ask(NEAR, request_id="heir")
