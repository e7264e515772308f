"""What teaches the policies: answers that were generated beside a known one, and complaints about what was reused.

Judging takes milliseconds, and longer where answers are long. So generated answers wait in a queue for a thread of
their own; what does not fit is forgotten, as is what waits when a process is killed: labels are many. What the judge
leaves open is kept for a moment, for the desk to have the large tier asked where the category says so. The same thread
brings what was learned together with other processes, so that no request waits for that.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import numpy as np
from forebay_schemas.metrics import JobMetrics

from forebay_jobs.caches.answers import AnswerStore, Judged
from forebay_jobs.caches.guard import is_failure
from forebay_jobs.caches.hits import REWORDING, Hit, HitStore
from forebay_jobs.caches.questions import Vector
from forebay_jobs.judging.judge import Judge, Pair

from .decision import Verdict
from .lesson import Lesson
from .namespaces import Namespaces
from .rewording import is_rewording

_WAITING = 10_000
"""Lessons: some tens of MB where answers are long."""
_AT_ONCE = 16
_SYNC_S = 1.0
"""Time between bringing what was learned together with other processes."""
_FEEDBACK = "feedback"
"""All who complain themselves, in the metrics."""
_OPEN = 1_000
"""Lessons that the large tier may be asked about."""

logger = logging.getLogger(__name__)


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
        self._lessons: queue.Queue[Lesson | None] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._open: OrderedDict[str, Lesson] = OrderedDict()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="teacher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the lessons that it works on; what waits is forgotten."""
        if self._thread is not None:
            self._stop.set()
            with contextlib.suppress(queue.Full):
                self._lessons.put_nowait(None)  # wakes it up
            self._thread.join()
            self._thread = None
            self._stop.clear()

    def put(self, lesson: Lesson) -> None:
        """Let a lesson wait for its turn; one too many is forgotten."""
        try:
            self._lessons.put_nowait(lesson)
        except queue.Full:
            self._metrics.reuse_labels.labels("judge", "forgotten").inc()

    def work(self) -> None:
        """Work on all that waits, here and now."""
        while not self._lessons.empty():
            self._teach(self._waiting())

    def left_open(self, digest: str) -> Lesson | None:
        """The lesson of the answer to a request, once, where the judge left it for the large tier to say."""
        return self._open.pop(digest, None)

    def told(self, lesson: Lesson, right: bool | None) -> None:
        """The large tier said whether the two answers of a lesson agree; None: it did not know either."""
        (known,) = self._answers.fetch([(lesson.entry, lesson.epochs)])
        self._answers.note(self._label(lesson, known.group, right, "model"))

    def reworded(self, hit: Hit, question: str, vector: Vector) -> bool:
        """Whether a question rewords the one that a hit was given for; then it counts against the hit, once."""
        before = np.frombuffer(hit.vector, dtype=np.float32)
        if not is_rewording(hit.question, question, before, vector):
            return False
        if self._hits.complain(hit.name, REWORDING):
            self._unlearn(hit, REWORDING)
            self._answers.note([Judged(digest=hit.digest, wrong=1, reworded=1)])
        return True

    def complained(self, name: str, voice: str) -> Hit | None:
        """Somebody said that the answer to a request was wrong: where it was reused its entry is quarantined.

        Returns:
            The hit, the first time that somebody says so.
        """
        complaint = self._hits.complain(name, voice)
        if complaint is None:
            return None
        hit = complaint.hit
        if complaint.first:
            self._unlearn(hit, _FEEDBACK)
        self._answers.note([Judged(digest=hit.digest, wrong=int(complaint.first), quarantined=True)])
        return hit

    def _unlearn(self, hit: Hit, source: str) -> None:
        with self._namespaces.lock:
            self._namespaces.policy(hit.owner, hit.category).learn(hit.decision, right=False)
        self._metrics.reuse_labels.labels(source, "wrong").inc()

    def _run(self) -> None:
        synced_s = time.monotonic()
        while not self._stop.is_set():
            lessons = self._waiting(_SYNC_S)
            try:
                self._teach(lessons)
                if time.monotonic() - synced_s >= _SYNC_S:
                    synced_s = time.monotonic()
                    self._namespaces.sync()
            except BaseException as error:
                if not is_failure(error):
                    raise
                logger.exception("%d answers teach nothing, on a defect", len(lessons))

    def _waiting(self, most_s: float = 0.0) -> list[Lesson]:
        """Some of the lessons that wait; waits so long for the first one."""
        lessons: list[Lesson | None] = []
        with contextlib.suppress(queue.Empty):
            lessons.append(self._lessons.get(timeout=most_s) if most_s else self._lessons.get_nowait())
            while len(lessons) < _AT_ONCE:
                lessons.append(self._lessons.get_nowait())
        return [lesson for lesson in lessons if lesson is not None]

    def _teach(self, lessons: Sequence[Lesson]) -> None:
        if not lessons:
            return
        known = self._answers.fetch([(lesson.entry, lesson.epochs) for lesson in lessons])
        pairs = [(lesson, entry, entry.answer) for lesson, entry in zip(lessons, known, strict=True) if entry.answer]
        agreements = self._judge.agree_all(
            [Pair(category=lesson.category, one=answer.text, other=lesson.text) for lesson, _, answer in pairs]
        )
        judged: list[Judged] = []
        for (lesson, entry, answer), agreement in zip(pairs, agreements, strict=True):
            if self._judge.asks_model(lesson.category, agreement):
                self._open[lesson.digest] = msgspec.structs.replace(lesson, known_text=answer.text)
                while len(self._open) > _OPEN:
                    self._open.popitem(last=False)
            else:
                judged += self._label(lesson, entry.group, agreement.equal, "judge")
        self._answers.note(judged)

    def _label(self, lesson: Lesson, group: str | None, right: bool | None, source: str) -> list[Judged]:
        """Take a label; what the entries are to remember of it."""
        self._metrics.reuse_labels.labels(source, {None: "unsure", True: "right", False: "wrong"}[right]).inc()
        if right is None:
            return []
        if lesson.decision.verdict is Verdict.AUDITED:
            self._metrics.reuse_audits.labels("right" if right else "wrong").inc()
        with self._namespaces.lock:
            self._namespaces.policy(lesson.owner, lesson.category).learn(lesson.decision, right)
        if not right:
            return [Judged(digest=lesson.entry, wrong=1)]
        return [Judged(digest=lesson.entry, right=1), Judged(digest=lesson.digest, group=group or lesson.entry)]
