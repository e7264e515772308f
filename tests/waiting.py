"""How tests wait: for a condition, never for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 120.0, poll_s: float = 0.005) -> Any:
    """Wait until a condition gives something true, and return that; fail with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(poll_s)
    raise AssertionError(f"after {timeout_s:g} s still not: {what}")


async def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """The same for what happens on the event loop meanwhile."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.001)
