"""The short form: the most telling faults, once each, in the middle of traffic."""

from collections.abc import Sequence

import pytest
from rich.console import Console

from .campaign import inject, judge
from .fault import Fault
from .faults import EVERY, FROM_OLDER, SHORT
from .older import no_older_version
from .scene import staged
from .table import table

pytestmark = pytest.mark.stack


def test_whatever_is_killed_no_reply_is_lost_repeated_or_wrong() -> None:
    nothing_is_wrong_after(named(*SHORT))


@pytest.mark.skipif(no_older_version() is not None, reason=str(no_older_version()))
def test_an_older_job_and_todays_worker_are_killed_together_and_the_job_is_upgraded() -> None:
    faults = [*named("kill -9 worker, mid-commit", "kill -9 TaskManager"), FROM_OLDER]
    nothing_is_wrong_after(faults, older_job=True)


def named(*names: str) -> list[Fault]:
    found = [fault for fault in EVERY if fault.name in names]
    assert len(found) == len(names)
    return found


def nothing_is_wrong_after(faults: Sequence[Fault], *, older_job: bool = False) -> None:
    with staged(older_job=older_job) as scene:
        assert scene.job_is_older() == older_job
        injected = [inject(scene, fault) for fault in faults]
        scene.load.stop()
        judge(scene, injected)
    assert scene.load.problems == []
    Console(width=160).print(table(injected))  # pytest shows it when the next line fails
    assert all(one.harmless for one in injected)  # how long it takes is for machines that do nothing else
