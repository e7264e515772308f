"""A worker of an older version beside the newest ones, as in the middle of a rolling upgrade.

It reads the tasks that today's job writes, and writes the replies and results of then. The reverse, a job of an older
version beside today's workers, is a whole run: ``inject --older-job``.
"""

from ..fault import Fault
from ..older import no_older_version, older_packages
from ..scene import Scene


def _older(scene: Scene) -> str:
    return older_packages(scene.running.stack.home.root / "older", "schemas", "workers")


FAULTS = (
    Fault(
        "an older worker joins",
        when=Scene.generating,
        inject=lambda scene: scene.second.join(_older(scene)),
        until=lambda scene: scene.second.joined(_older(scene)),
        impossible=no_older_version,
    ),
    Fault(
        "an older worker leaves",
        when=lambda scene: scene.second.joined(_older(scene)) and scene.generating(),
        inject=lambda scene: scene.second.leave(),
        impossible=no_older_version,
    ),
)
