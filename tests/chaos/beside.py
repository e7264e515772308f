"""A process beside those that the stack looks after."""

import signal
import subprocess
from collections.abc import Mapping, Sequence

from forebay_ops.local.home import Home

_LEAVE_S = 45
"""What the local stack gives a worker; too long for every fault's limit, so that the table tells."""


class Beside:
    """It runs until ``leave``; its output goes to a log of its own name."""

    def __init__(self, name: str, home: Home) -> None:
        self.name = name
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self._home.logs / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self._home.root, stdout=log, stderr=log, start_new_session=True
            )

    def leave(self) -> None:
        """Tell it to stop, and wait for that; one that does not is killed, as its keeper would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
