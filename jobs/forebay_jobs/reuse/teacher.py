"""What teaches the policies: answers that were generated beside a known one, and complaints about what was reused.

Judging takes milliseconds, and longer where answers are long. So generated answers wait in a queue for a thread of
their own, which samples them when there are too many, and forgets them when a process is killed. What the judge leaves
open is kept for a moment, for the desk to have the large tier asked where the category says so. The same thread
brings what was learned together with other processes, so that no request waits for that.
"""

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np
from forebay_schemas.metrics import JobMetrics

from forebay_jobs.caches.answers import SHARED, AnswerStore, Judged
from forebay_jobs.caches.guard import is_failure
from forebay_jobs.caches.hits import REWORDING, Hit, HitStore
from forebay_jobs.caches.questions import Vector
from forebay_jobs.judging.judge import Judge, Pair
from forebay_jobs.messages import Arrival, tenant_of

from .decision import Verdict, lot
from .lesson import Lesson
from .lesson_queue import LessonQueue
from .namespaces import Namespaces
from .rewording import is_rewording

_AT_ONCE = 4
"""Lessons judged in one batch, for some tenths of a second: so long do an audit, and what was learned, wait at most."""
_SYNC_S = 1.0
"""Time between bringing what was learned together with other processes."""
_FEEDBACK = "feedback"
"""All who complain themselves, in the metrics."""
_OPEN = 100
"""Lessons of a bucket that the large tier may be asked about; of more, the oldest are left open."""

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What becomes of a thumb."""

    QUARANTINED = "quarantined"
    """The entry is given to equal questions only."""
    COUNTED = "counted"
    """It counts against the entry, which is shared with tenants that said nothing, gone, or in quarantine already."""
    TAKEN_BACK = "taken_back"
    """What a rewording said before counts no longer."""
    NOTHING = "nothing"
    """No answer was given by meaning, or the same was said before."""


class Complained(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a complaint."""

    outcome: Outcome
    hit: Hit | None = None
    """What it is about, where it changed anything."""


class Teacher:
    """See the module. Safe to share between threads."""

    def __init__(
        self, judge: Judge, answers: AnswerStore, hits: HitStore, namespaces: Namespaces, metrics: JobMetrics
    ) -> None:
        self._judge = judge
        self._answers = answers
        self._hits = hits
        self._namespaces = namespaces
        self._metrics = metrics
        self._lessons = LessonQueue()
        metrics.reuse_lessons.set_function(lambda: len(self._lessons))
        self._stop = threading.Event()
        self._open: dict[str, deque[Lesson]] = defaultdict(lambda: deque(maxlen=_OPEN))
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="teacher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the lessons that it works on; what waits is forgotten."""
        if self._thread is not None:
            self._stop.set()
            self._lessons.wake()
            self._thread.join()
            self._thread = None
            self._stop.clear()

    def put(self, lesson: Lesson) -> None:
        """Let a lesson wait for its turn, or pass over it where many wait."""
        with self._namespaces.lock:
            worth = self._namespaces.policy(lesson.owner, lesson.category).worth(lesson.decision)
        passed_over = self._lessons.put(lesson, worth)
        if passed_over is not None:
            self._count(lesson.category, "judge", passed_over)

    def work(self) -> None:
        """Work on all that waits, here and now."""
        while len(self._lessons):
            self._teach(self._lessons.take(_AT_ONCE))

    def left_open(self, bucket: str) -> list[Lesson]:
        """The lessons of a bucket's answers, each once, that the judge left for the large tier to say."""
        waiting = self._open.get(bucket)
        return [waiting.popleft() for _ in range(len(waiting))] if waiting else []

    def told(self, lesson: Lesson, right: bool | None) -> None:
        """The large tier said whether the two answers of a lesson agree; None: it did not know either."""
        (known,) = self._answers.fetch([(lesson.entry, lesson.epochs)])
        self._answers.note(self._label(lesson, known.group, right, "model"))

    def reworded(self, hit: Hit, arrival: Arrival, vector: Vector) -> Complained | None:
        """Where a question rewords the one that a hit was given for, that counts against the hit, once; None: it does
        not."""
        before = np.frombuffer(hit.vector, dtype=np.float32)
        if hit.context != arrival.context or not is_rewording(hit.question, arrival.question or "", before, vector):
            return None
        known = self._hits.find(hit.name)
        if known is None or known.complaint is not None or not self._hits.mark(hit, REWORDING):
            return Complained(outcome=Outcome.NOTHING)
        self._learn(hit, REWORDING, right=False)
        return self._complained(hit, self._answers.doubt(hit.digest, wrong=1, reworded=True, tenant=_sharer(hit)))

    def complained(self, name: str, voice: str) -> Complained | None:
        """Somebody said that the answer to a request was wrong: where it was reused its entry is quarantined.

        Returns:
            None while Redis is away. Then it is to be tried again; what was done already is not done twice, but for
            one more count of the entry's wrong answers.
        """
        known = self._hits.look(name)
        if known is None:
            return None
        if not known or known[0].complaint not in (None, REWORDING):
            return Complained(outcome=Outcome.NOTHING)
        hit, first = known[0].hit, known[0].complaint is None
        quarantined = self._answers.doubt(hit.digest, wrong=int(first), tenant=_sharer(hit))
        # Noted last: what is noted is not tried again.
        if quarantined is None or not self._hits.mark(hit, voice):
            return None
        if first:
            self._learn(hit, _FEEDBACK, right=False)
        return self._complained(hit, quarantined)

    def praised(self, name: str) -> Complained | None:
        """Somebody said that the answer to a request was right: who asked again in other words after it did not mean
        that it was wrong. None while Redis is away."""
        known = self._hits.look(name)
        if known is None:
            return None
        if not known or known[0].complaint != REWORDING:
            return Complained(outcome=Outcome.NOTHING)
        hit = known[0].hit
        if not self._hits.mark(hit, None):
            return None
        self._answers.trust(hit.digest)
        self._learn(hit, _FEEDBACK, right=True)
        return Complained(outcome=Outcome.TAKEN_BACK, hit=hit)

    def _complained(self, hit: Hit, quarantined: bool | None) -> Complained:
        return Complained(outcome=Outcome.QUARANTINED if quarantined else Outcome.COUNTED, hit=hit)

    def _learn(self, hit: Hit, source: str, *, right: bool) -> None:
        with self._namespaces.lock:
            self._namespaces.policy(hit.owner, hit.category).learn(hit.decision, right)
        self._count(hit.category, source, "right" if right else "wrong")

    def _count(self, category: str, source: str, outcome: str) -> None:
        self._metrics.reuse_labels.labels(self._namespaces.pool(category), source, outcome).inc()

    def _run(self) -> None:
        synced_s = time.monotonic()
        while not self._stop.is_set():
            lessons = self._lessons.take(_AT_ONCE, _SYNC_S)
            try:
                self._teach(lessons)
                if time.monotonic() - synced_s >= _SYNC_S:
                    synced_s = time.monotonic()
                    self._namespaces.sync()
            except BaseException as error:
                if not is_failure(error):
                    raise
                logger.exception("%d answers teach nothing, on a defect", len(lessons))

    def _teach(self, lessons: Sequence[Lesson]) -> None:
        if not lessons:
            return
        known = self._answers.fetch([(lesson.entry, lesson.epochs) for lesson in lessons])
        pairs = [(lesson, entry, entry.answer) for lesson, entry in zip(lessons, known, strict=True) if entry.answer]
        agreements = self._judge.agree_all(
            [
                Pair(category=lesson.category, one=answer.text, other=lesson.text, as_json=lesson.as_json)
                for lesson, _, answer in pairs
            ]
        )
        judged: list[Judged] = []
        for (lesson, entry, answer), agreement in zip(pairs, agreements, strict=True):
            asked = self._judge.model_share(lesson.category, agreement)
            if lot(lesson.digest, b"verdict") < asked:
                self._open[lesson.bucket].append(
                    msgspec.structs.replace(lesson, known_text=answer.text, share=lesson.share * asked)
                )
            else:
                judged += self._label(lesson, entry.group, agreement.equal, "judge")
        self._answers.note(judged)

    def _label(self, lesson: Lesson, group: str | None, right: bool | None, source: str) -> list[Judged]:
        """Take a label; what the entries are to remember of it."""
        self._count(lesson.category, source, {None: "unsure", True: "right", False: "wrong"}[right])
        if right is None:
            return []
        if lesson.decision.verdict is Verdict.AUDITED:
            pool = self._namespaces.pool(lesson.category)
            self._metrics.reuse_audits.labels(pool, "right" if right else "wrong").inc()
        with self._namespaces.lock:
            self._namespaces.policy(lesson.owner, lesson.category).learn(lesson.decision, right, lesson.share)
        if not right:
            return [Judged(digest=lesson.entry, wrong=1)]
        return [Judged(digest=lesson.entry, right=1), Judged(digest=lesson.digest, group=group or lesson.entry)]


def _sharer(hit: Hit) -> str | None:
    """The tenant that was given an answer which it shares with others; None where it does not."""
    return tenant_of(hit.name)[0] if hit.owner == SHARED else None
