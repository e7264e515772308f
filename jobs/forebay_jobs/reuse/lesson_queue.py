"""Lessons that wait for the judge: audits first, and when there are too many a sample of the others."""

import threading
from collections import deque

import msgspec

from .decision import Verdict, lot
from .lesson import Lesson

AMPLE = 256
"""So many wait for some seconds, and for most of a minute where answers are long. Beyond, lessons are sampled."""
MOST = 2_000
"""Of either kind: some MB where answers are long. Beyond, lessons are forgotten."""


class LessonQueue:
    """See the module. Safe to share between threads.

    Whether a lesson is taken is decided by what was known when its request was decided on, and by lot; never by what
    the two answers say. So what is learned of the lessons that are taken is right for all.
    """

    def __init__(self) -> None:
        self._audits: deque[Lesson] = deque()
        self._others: deque[Lesson] = deque()
        self._came = threading.Condition()

    def __len__(self) -> int:
        return len(self._audits) + len(self._others)

    def put(self, lesson: Lesson, worth: float) -> str | None:
        """Let a lesson wait.

        Args:
            worth: in [0, 1], how much there is to learn from it; the chance with which it is taken when many wait.

        Returns:
            None, or why it does not wait, for the metrics.
        """
        with self._came:
            audited = lesson.decision.verdict is Verdict.AUDITED
            waiting = self._audits if audited else self._others
            if not audited and len(waiting) >= AMPLE:
                if lot(lesson.digest, b"lesson") >= worth:
                    return "sampled_out"
                lesson = msgspec.structs.replace(lesson, share=worth)
            if len(waiting) >= MOST:
                return "forgotten"
            waiting.append(lesson)
            self._came.notify()
            return None

    def take(self, most: int, wait_s: float = 0.0) -> list[Lesson]:
        """The next lessons; waits so long for the first one."""
        with self._came:
            if not len(self) and wait_s:
                self._came.wait(wait_s)
            return [(self._audits or self._others).popleft() for _ in range(min(most, len(self)))]

    def wake(self) -> None:
        """Let whoever waits in ``take`` go on without a lesson."""
        with self._came:
            self._came.notify_all()
