"""The end of an engine's process when its worker is gone: a killed worker cannot stop it any more.

vLLM calls ``end_with_worker`` in each of its processes, as a plugin of the group ``vllm.general_plugins``.
"""

import os
import signal
import threading
import time

_WORKER_PID = "_FOREBAY_WORKER_PID"
_CHECK_S = 1.0


def mark_worker() -> None:
    """Let the processes that are started from here know whose they are."""
    os.environ[_WORKER_PID] = str(os.getpid())


def end_with_worker() -> None:
    """In a process that a worker started, or that such a one started: kill it when its parent has ended.

    The memory it holds is free a second later. Does nothing in any other process.
    """
    if os.environ.get(_WORKER_PID) in (None, str(os.getpid())):
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_CHECK_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
