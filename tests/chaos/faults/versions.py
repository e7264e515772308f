"""A worker of an older version beside the newest ones, as in the middle of a rolling upgrade.

It reads the tasks that today's job writes, and writes the replies and results of then. The reverse, a job of an older
version beside today's workers, is a whole run: ``inject --older-job``.
"""

from ..fault import Fault
from ..older import no_older_version, older_packages
from ..scene import Scene


def _older(scene: Scene) -> str:
    return older_packages(scene.running.stack.home.root / "older", "schemas", "workers")


def _works(scene: Scene) -> bool:
    """Whether it is there, and has answered: one that no task came to would prove nothing."""
    return scene.second.joined(_older(scene)) and scene.second.answered() > 0


FAULTS = (
    Fault(
        "an older worker joins",
        when=Scene.generating,
        inject=lambda scene: scene.second.join(_older(scene)),
        until=_works,
        impossible=no_older_version,
    ),
    Fault(
        "an older worker leaves",
        when=lambda scene: _works(scene) and scene.generating(),
        inject=lambda scene: scene.second.leave(),
        impossible=no_older_version,
    ),
)
