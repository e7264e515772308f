"""The end of an engine's process when its worker is gone: a killed worker cannot stop it any more."""

import os
import signal
import threading
import time

_CHECK_S = 1.0


def end_with_parent() -> None:
    """Watch over this process's parent, and kill this process, with the memory it holds, when the parent ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_CHECK_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
