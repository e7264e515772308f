"""Results whose task the desk does not know, or not yet.

A job that was set back to a checkpoint may read a result before the request that led to it. It dispatches that
request again under the same task id, and workers pass over a task that has its result: it must be here then.
"""

from forebay_schemas.records import Result

from .desk_state import DeskState

ORPHANS = "?"
"""The key under which a look at the orphans is noted; no flight has it."""
LIMIT = 1_000
"""Of one bucket. As many as come between two checkpoints, which are seconds apart, and the oldest go first."""


class Orphans:
    """Keeps results for ``keep_s`` seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_ms = round(keep_s * 1000)

    def keep(self, state: DeskState, result: Result, now_ms: int) -> None:
        """Keep a result for the dispatch of its task."""
        if state.orphan(result.task_id) is not None:
            return
        queue = state.orphan_queue()
        for _, task_id in queue[: max(0, len(queue) - LIMIT + 1)]:
            state.drop_orphan(task_id)
        queue = [*queue[-LIMIT + 1 :], (now_ms + self._keep_ms, result.task_id)]
        state.put_orphan(result)
        state.put_orphan_queue(queue)
        if len(queue) == 1:  # else a look is noted for the oldest, or for one before it
            state.wake(ORPHANS, queue[0][0])

    def take(self, state: DeskState, task_id: str) -> Result | None:
        """The result of a task that is about to be dispatched, where it came before."""
        result = state.orphan(task_id)
        if result is not None:
            state.drop_orphan(task_id)
        return result

    def expire(self, state: DeskState, now_ms: int) -> None:
        """Forget those whose time is over."""
        queue = state.orphan_queue()
        for until_ms, task_id in queue:
            if until_ms <= now_ms:
                state.drop_orphan(task_id)
        queue = [entry for entry in queue if entry[0] > now_ms]
        state.put_orphan_queue(queue)
        if queue:
            state.wake(ORPHANS, queue[0][0])
