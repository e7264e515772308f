"""A job that is replaced in order: stopped with a savepoint, and submitted again from it in fresh processes."""

import os
import signal
import subprocess
import sys

from ..fault import Fault
from ..scene import Scene

_STOPPED_WITHIN_S = 60


def _replace_the_job(scene: Scene) -> None:
    """As an operator does it, with the product's own commands. The stack's keeper submits it from the savepoint, to a
    TaskManager that loads its packages anew."""
    stack = scene.running.stack
    environment = os.environ | {"FOREBAY_CONFIG": str(stack.home.config)}
    with (stack.home.logs / "upgrade.log").open("ab") as log:
        command = [sys.executable, "-m", "forebay_ops.cli", "job", "stop"]
        subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=_STOPPED_WITHIN_S, check=True)
    scene.signal("taskmanager", signal.SIGTERM)


FAULTS = (
    Fault(
        "job upgraded from a savepoint",
        when=lambda scene: scene.job_runs() and scene.generating(),
        inject=_replace_the_job,
        until=lambda scene: scene.another_runs("taskmanager"),
        within_s=90,
    ),
)
