"""What teaches: generated answers are compared with known ones on a thread of their own, or by the large tier."""

from typing import Any

import msgspec
import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.reuse.adaptive import AdaptiveReuse
from forebay_jobs.reuse.decision import Decision, Verdict
from forebay_jobs.reuse.lesson import Lesson
from forebay_jobs.reuse.lesson_queue import AMPLE, MOST
from forebay_schemas.categories import CategoryConfig, JudgeConfig
from forebay_schemas.config import load_config

from tests.builders import make_reply, make_request
from tests.jobs.doubles import Meaning, MemoryAnswers, MemoryIndex
from tests.waiting import eventually

KNOWN = "We deliver to France within two days."
ALIKE = "Within two days we deliver to French addresses."  # 0.95 by its letters
FAR = "Nobody knows."


class Rig:
    def __init__(self, policy: Any = "adaptive", **judge: Any) -> None:
        settings = JudgeConfig(**{"different_below": 0.5, "equal_from": 0.99, **judge})
        category = CategoryConfig(policy=policy, judge=settings)
        config = load_config().model_copy(update={"categories": {"default": category}})
        self.answers = MemoryAnswers(config)
        self.epochs = self.answers.current(make_request())
        self.answers.keep("known", Answer.of(make_reply(text=KNOWN), self.epochs), 60)
        self.answers.keep("new", Answer.of(make_reply(), self.epochs), 60)
        self.meaning = Meaning(config, MemoryIndex(), self.answers)
        self.teacher = self.meaning.teacher
        self.metrics = self.meaning.metrics

    def lesson(self, text: str, entry: str = "known", **fields: Any) -> Lesson:
        decision = Decision(verdict=Verdict.TOO_FAR, policy="adaptive", similarity=0.975, threshold=0.98)
        values = {
            "owner": "tenant:acme", "tenant": "acme", "category": "default", "decision": decision, "entry": entry,
            "epochs": self.epochs, "digest": "new", "question": "How long does delivery take?", "text": text,
            "bucket": "0.0",
        }  # fmt: skip
        return Lesson(**values | fields)

    def labels(self, source: str, outcome: str) -> float:
        return self.meaning.metrics.reuse_labels.labels("default", source, outcome)._value.get()

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
    assert rig.teacher.left_open("0.0") == []
    rig = Rig(by="model", model_share=1.0)
    rig.teacher.put(rig.lesson(ALIKE))
    rig.teacher.work()
    assert rig.teacher.left_open("64.0") == []
    (lesson,) = rig.teacher.left_open("0.0")
    assert lesson.known_text == KNOWN
    assert rig.teacher.left_open("0.0") == []
    assert rig.threshold == 0.98
    rig.teacher.told(lesson, right=True)
    assert rig.threshold < 0.98
    assert rig.labels("model", "right") == 1


def test_of_what_is_left_open_a_share_is_asked_and_stands_for_the_others() -> None:
    rig = Rig(by="model", model_share=0.2)
    for number in range(200):
        rig.teacher.put(rig.lesson(ALIKE, digest=f"new-{number}"))
    rig.teacher.work()
    asked = rig.teacher.left_open("0.0")
    assert 20 <= len(asked) <= 60
    assert {lesson.share for lesson in asked} == {0.2}
    assert rig.labels("judge", "unsure") == 200 - len(asked)


def test_a_format_that_was_asked_for_counts_by_its_values() -> None:
    rig = Rig(by="text")
    rig.answers.keep("known", Answer.of(make_reply(text='{"days": 2, "to": "France"}'), rig.epochs), 60)
    rig.teacher.put(rig.lesson('{"to": "France", "days": 2}', as_json=True))
    rig.teacher.work()
    assert rig.labels("judge", "right") == 1


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
    eventually(lambda: rig.labels("judge", "right") == 40, "all are judged")
    rig.teacher.close()
    rig.teacher.put(rig.lesson(KNOWN))  # after it was closed: kept, and no error
    rig.teacher.close()
    assert rig.labels("judge", "right") == 40


def test_it_ends_soon_however_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    fetch = rig.answers.fetch

    def fetch_when_it_is_to_end(*wanted: Any) -> Any:
        eventually(rig.teacher._stop.is_set, "it is to end")
        return fetch(*wanted)

    monkeypatch.setattr(rig.answers, "fetch", fetch_when_it_is_to_end)
    for _ in range(MOST + 1):
        rig.teacher.put(rig.lesson(FAR))
    assert rig.labels("judge", "forgotten") == 1
    rig.teacher.start()
    rig.teacher.close()
    assert rig.labels("judge", "wrong") < MOST


def test_where_too_many_wait_audits_come_first_and_a_sample_stands_for_those_far_from_the_price() -> None:
    rig = Rig(policy="bounded")
    far = Decision(verdict=Verdict.TOO_UNSURE, policy="bounded", similarity=0.7, wrong=0.9, price=0.02)
    audit = msgspec.structs.replace(far, verdict=Verdict.AUDITED, wrong=0.01)
    for number in range(AMPLE + 4_000):
        rig.teacher.put(rig.lesson(FAR, digest=f"far-{number}", decision=far))
    rig.teacher.put(rig.lesson(FAR, decision=audit))
    waiting = rig.teacher._lessons
    (family,) = rig.metrics.reuse_lessons.collect()
    assert family.samples[0].value == len(waiting)
    (first, *others) = waiting.take(MOST)
    assert first.decision.verdict is Verdict.AUDITED
    sampled = [lesson for lesson in others if lesson.share < 1]
    assert len(others) - len(sampled) == AMPLE
    assert rig.labels("judge", "sampled_out") == 4_000 - len(sampled)
    assert sum(1 / lesson.share for lesson in sampled) == pytest.approx(4_000, rel=0.2)


def test_a_judge_that_fails_harms_nobody() -> None:
    rig = Rig()
    rig.meaning.embedder.broken = True
    rig.teacher.start()
    rig.teacher.put(rig.lesson(ALIKE))
    eventually(lambda: not len(rig.teacher._lessons), "the first is taken")
    rig.meaning.embedder.broken = False
    rig.teacher.put(rig.lesson(KNOWN))
    eventually(lambda: rig.labels("judge", "right") == 1, "the second is judged")
    rig.teacher.close()
