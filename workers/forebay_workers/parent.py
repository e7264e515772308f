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
    """In a process that a worker started: kill it, with the memory it holds, when the worker has ended.

    Does nothing in any other process.
    """
    worker = os.getppid()
    if os.environ.get(_WORKER_PID) != str(worker):
        return

    def watch() -> None:
        while os.getppid() == worker:
            time.sleep(_CHECK_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()
