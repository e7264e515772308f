"""The short form: the most telling faults, once each, in the middle of traffic."""

import pytest
from rich.console import Console

from .campaign import inject, judge
from .faults import EVERY, SHORT
from .scene import staged
from .table import table


@pytest.mark.stack
def test_whatever_is_killed_no_reply_is_lost_repeated_or_wrong() -> None:
    with staged() as scene:
        injected = [inject(scene, fault) for fault in EVERY if fault.name in SHORT]
        scene.load.stop()
        judge(scene, injected)
    assert scene.load.problems == []
    assert len(injected) == len(SHORT)
    Console(width=160).print(table(injected))  # pytest shows it when the next line fails
    assert all(one.harmless for one in injected)  # how long it takes is for machines that do nothing else
