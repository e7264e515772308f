"""What teaches: generated answers are compared with known ones on a thread of their own, or by the large tier."""

import time
from collections.abc import Callable
from typing import Any

from forebay_jobs.caches.answers import Answer
from forebay_jobs.reuse.adaptive import AdaptiveReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.lesson import Lesson
from forebay_schemas.config import load_config
from forebay_schemas.sections import CategoryConfig, JudgeConfig

from tests.builders import make_reply, make_request
from tests.jobs.doubles import Meaning, MemoryAnswers, MemoryIndex

KNOWN = "We deliver to France within two days."
ALIKE = "Within two days we deliver to French addresses."  # 0.95 by its letters
FAR = "Nobody knows."


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Rig:
    def __init__(self, **judge: Any) -> None:
        settings = JudgeConfig(**{"different_below": 0.5, "equal_from": 0.99, **judge})
        category = CategoryConfig(policy="adaptive", judge=settings)
        config = load_config().model_copy(update={"categories": {"default": category}})
        self.answers = MemoryAnswers(config)
        self.epochs = self.answers.current(make_request())
        self.answers.keep("known", Answer.of(make_reply(text=KNOWN), self.epochs), 60)
        self.answers.keep("new", Answer.of(make_reply(), self.epochs), 60)
        self.meaning = Meaning(config, MemoryIndex(), self.answers)
        self.teacher = self.meaning.teacher

    def lesson(self, text: str, entry: str = "known") -> Lesson:
        decision = Decision(verdict=Verdict.TOO_FAR, policy="adaptive", similarity=0.975, threshold=0.98)
        return Lesson(
            owner="tenant:acme", tenant="acme", category="default", decision=decision, entry=entry, epochs=self.epochs,
            digest="new", question="How long does delivery take?", text=text,
        )  # fmt: skip

    def labels(self, source: str, outcome: str) -> float:
        return self.meaning.metrics.reuse_labels.labels(source, outcome)._value.get()

    @property
    def threshold(self) -> float:
        policy = self.meaning.namespaces.policy("tenant:acme", "default")
        assert isinstance(policy, AdaptiveReuse)
        return policy.threshold


def test_an_answer_that_agrees_is_a_label_and_joins_the_group() -> None:
    rig = Rig()
    rig.teacher.put(rig.lesson(KNOWN))
    rig.teacher.work()
    assert rig.threshold < 0.98
    assert [one.right for one in rig.answers.judged["known"]] == [1]
    assert [one.group for one in rig.answers.judged["new"]] == ["known"]
    assert rig.labels("judge", "right") == 1


def test_one_that_differs_is_a_label_too() -> None:
    rig = Rig()
    rig.teacher.put(rig.lesson(FAR))
    rig.teacher.work()
    assert rig.threshold > 0.98
    assert [one.wrong for one in rig.answers.judged["known"]] == [1]
    assert "new" not in rig.answers.judged


def test_what_cannot_be_said_teaches_nothing_and_is_asked_of_the_large_tier_where_the_category_says_so() -> None:
    rig = Rig()
    rig.teacher.put(rig.lesson(ALIKE))
    rig.teacher.work()
    assert rig.labels("judge", "unsure") == 1
    assert rig.teacher.left_open("new") is None
    rig = Rig(by="model")
    rig.teacher.put(rig.lesson(ALIKE))
    rig.teacher.work()
    lesson = rig.teacher.left_open("new")
    assert lesson is not None
    assert lesson.known_text == KNOWN
    assert rig.teacher.left_open("new") is None
    assert rig.threshold == 0.98
    rig.teacher.told(lesson, right=True)
    assert rig.threshold < 0.98
    assert rig.labels("model", "right") == 1


def test_a_neighbour_that_is_gone_meanwhile_teaches_nothing() -> None:
    rig = Rig()
    rig.teacher.put(rig.lesson(KNOWN, entry="gone"))
    rig.teacher.work()
    assert rig.threshold == 0.98


def test_its_thread_works_on_what_waits() -> None:
    rig = Rig()
    rig.teacher.start()
    for _ in range(40):
        rig.teacher.put(rig.lesson(KNOWN))
    until(lambda: rig.labels("judge", "right") == 40)
    rig.teacher.close()
    rig.teacher.put(rig.lesson(KNOWN))  # after it was closed: kept, and no error
    rig.teacher.close()
    assert rig.labels("judge", "right") == 40


def test_it_ends_soon_however_much_waits() -> None:
    rig = Rig()
    for _ in range(10_001):
        rig.teacher.put(rig.lesson(FAR))
    assert rig.labels("judge", "forgotten") == 1
    rig.teacher.start()
    rig.teacher.close()
    assert rig.labels("judge", "wrong") < 10_000


def test_a_judge_that_fails_harms_nobody() -> None:
    rig = Rig()
    rig.meaning.embedder.broken = True
    rig.teacher.start()
    rig.teacher.put(rig.lesson(ALIKE))
    until(lambda: rig.teacher._lessons.empty())
    rig.meaning.embedder.broken = False
    rig.teacher.put(rig.lesson(KNOWN))
    until(lambda: rig.labels("judge", "right") == 1)
    rig.teacher.close()
