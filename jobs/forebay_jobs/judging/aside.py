"""Judging aside of the requests' way: pairs wait for a thread of their own, and what it found is called for later.

Judging takes milliseconds, and longer where answers are long. Nothing here survives the process: whoever does not find
what was asked for asks again.
"""

import contextlib
import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable

from forebay_jobs.caches.guard import is_failure

from .judge import Agreement, Judge, Pair

_MOST = 1_000
"""Pairs that wait, and found agreements that nobody has called for yet: some MB each where answers are long."""
_AT_ONCE = 16

logger = logging.getLogger(__name__)


class JudgeAside:
    """See the module. Safe to share between threads."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self._waiting: queue.Queue[tuple[str, Pair] | None] = queue.Queue(_MOST)
        self._asked: set[str] = set()
        self._found: OrderedDict[str, Agreement] = OrderedDict()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the pairs that it works on; what waits is forgotten."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)  # wakes it up
            thread.join()

    def agreement(self, name: str, pair: Callable[[], Pair]) -> Agreement | None:
        """What was found about a pair, once; None while it is not known, and it is asked for then.

        Args:
            name: of the pair, the same whenever it is called for.
            pair: makes it; called where it is asked for only, because thousands may wait for long.
        """
        with self._lock:
            found = self._found.pop(name, None)
            if found is not None or name in self._asked or self._waiting.full():
                return found
        made = pair()
        with self._lock, contextlib.suppress(queue.Full):
            self._waiting.put_nowait((name, made))
            self._asked.add(name)
        return None

    def work(self) -> None:
        """Judge all that waits, here and now."""
        while pairs := self._next():
            self._judge(pairs)

    def _run(self) -> None:
        while self._thread is not None:
            pairs = self._next(1.0)
            try:
                self._judge(pairs)
            except BaseException as error:
                if not is_failure(error):
                    raise
                logger.exception("%d pairs of answers are not judged, on a defect", len(pairs))
                with self._lock:  # so that they can be asked for again
                    self._asked.difference_update(name for name, _ in pairs)

    def _next(self, most_s: float = 0.0) -> list[tuple[str, Pair]]:
        """Some of the pairs that wait; waits so long for the first one."""
        pairs: list[tuple[str, Pair] | None] = []
        with contextlib.suppress(queue.Empty):
            pairs.append(self._waiting.get(timeout=most_s) if most_s else self._waiting.get_nowait())
            while len(pairs) < _AT_ONCE:
                pairs.append(self._waiting.get_nowait())
        return [pair for pair in pairs if pair is not None]

    def _judge(self, pairs: list[tuple[str, Pair]]) -> None:
        if not pairs:
            return
        agreements = self.judge.agree_all([pair for _, pair in pairs])
        with self._lock:
            for (name, _), agreement in zip(pairs, agreements, strict=True):
                self._asked.discard(name)
                self._found[name] = agreement
            while len(self._found) > _MOST:
                self._found.popitem(last=False)
