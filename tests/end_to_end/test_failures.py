"""Parts are killed in the middle of traffic, when the state worth breaking is observed; no reply is lost or doubled."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from forebay_schemas.records import CacheStatus

from ..waiting import eventually
from .conftest import RunningStack
from .traffic import Inbox, plan, publish

COUNT = 500
GENERATED = (CacheStatus.MISS, CacheStatus.BYPASS)


def _generating(running: RunningStack) -> bool:
    return running.total("worker", "forebay_worker_inflight") > 0


def _checkpoint_half_done(running: RunningStack) -> bool:
    jobs = (running.rest("/jobs/overview") or {}).get("jobs", [])
    alive = [job["jid"] for job in jobs if job["state"] == "RUNNING"]
    counts = (running.rest(f"/jobs/{alive[0]}/checkpoints") or {}).get("counts", {}) if alive else {}
    return counts.get("in_progress", 0) > 0 and counts.get("completed", 0) > 0


@pytest.mark.parametrize(
    ("part", "state"),
    [
        ("worker", _generating),
        ("taskmanager", _generating),
        ("jobmanager", _checkpoint_half_done),
    ],
)
def test_a_killed_part_costs_no_reply(running: RunningStack, part: str, state: Callable[[RunningStack], bool]) -> None:
    planned = plan(COUNT, f"{part} season", seed=2)
    inbox = Inbox()
    under_way = threading.Event()
    with running.client() as client:

        def send() -> None:
            for number, sent in enumerate(planned):
                publish(client, sent, inbox)
                if number == COUNT // 3:
                    under_way.set()
                threading.Event().wait(0.01)  # a steady load, so that requests are under way when the part dies

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert under_way.wait(60)
            eventually(lambda: state(running), f"the state in which to kill the {part}", poll_s=0.0)
            pid = running.stack.pid(part)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        finally:
            sender.join()
        client.flush()
        eventually(lambda: len(inbox) == COUNT, f"{COUNT} replies after the {part} was killed", timeout_s=240)

    assert running.stack.pid(part) != pid
    for sent in planned:
        came = inbox.replies[sent.request_id]
        assert len(came) == 1, f"{len(came)} replies to {sent.request_id}"
        assert came[0].error is None
        matched = came[0].matched_request_id
        assert matched is None or matched.split("-")[1] == sent.tenant

    # The client removes repeats. On the topic itself, a job that was set back may write what it answers once more;
    # what a worker generates is there once, for whoever reads it.
    generated = [each.request_id for each in running.replies() if each.cache_status in GENERATED and not each.error]
    assert set(generated) >= {each for each, came in inbox.replies.items() if came[0].cache_status in GENERATED}
    assert Counter(generated).most_common(1)[0][1] == 1
