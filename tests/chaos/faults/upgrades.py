"""A job that is replaced in order: stopped with a savepoint, and submitted again from it in fresh processes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

from ..fault import Fault
from ..older import OLDER_JOB
from ..scene import Scene

_STOPPED_WITHIN_S = 90


def _replace_the_job(scene: Scene) -> None:
    """As an operator does it, with the product's own commands. The stack's keeper submits it from the savepoint, to a
    TaskManager that loads its packages anew."""
    _stop_the_job(scene)
    scene.signal("taskmanager", signal.SIGTERM)


def _replace_the_older_job(scene: Scene) -> None:
    """The same, and its keeper is replaced too: the older one must not bring the older job back."""
    scene.signal("job", signal.SIGSTOP)
    try:
        _stop_the_job(scene)
        older = scene.running.stack.home.root / OLDER_JOB
        older.rename(older.with_name("replaced"))  # where it is not, Python finds this version
    finally:
        scene.signal("job", signal.SIGKILL)
    scene.signal("taskmanager", signal.SIGTERM)


def _stop_the_job(scene: Scene) -> None:
    stack = scene.running.stack
    environment = os.environ | {"FOREBAY_CONFIG": str(stack.home.config)}
    with (stack.home.logs / "upgrade.log").open("ab") as log:
        command = [sys.executable, "-m", "forebay_ops.cli", "job", "stop", "--timeout", str(_STOPPED_WITHIN_S)]
        stopped = subprocess.run(command, env=environment, stdout=log, stderr=log)
    assert stopped.returncode == 0, "the job is not stopped; upgrade.log says why"


def _nothing_was_forgotten(scene: Scene) -> None:
    """The job that goes on knew the flights of all results that came since."""
    unknown = scene.running.total("job", "forebay_results_total", outcome="unknown")
    assert not unknown, f"{unknown:g} results are of flights that the job has forgotten"


def _is_this_version(scene: Scene) -> None:
    assert not scene.job_is_older(), "the older version's job is back"
    _nothing_was_forgotten(scene)


_UPGRADED = Fault(
    "job upgraded from a savepoint",
    when=lambda scene: scene.job_runs() and scene.generating(),
    inject=_replace_the_job,
    until=lambda scene: scene.another_runs("taskmanager"),
    after=_nothing_was_forgotten,
    within_s=60,  # the job is submitted anew, as after a JobManager that is lost
)
FAULTS = (_UPGRADED,)
FROM_OLDER = replace(
    _UPGRADED,
    name="job of the older version upgraded to this one, from its savepoint",
    inject=_replace_the_older_job,
    after=_is_this_version,
)
"""The end of a run with an older job."""
