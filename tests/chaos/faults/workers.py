"""Workers that come and go in order."""

from ..fault import Fault
from ..scene import Scene

FAULTS = (
    Fault(
        "a second worker joins",
        when=Scene.generating,
        inject=lambda scene: scene.second.join(),
        until=lambda scene: scene.second.joined(),
    ),
    Fault(
        "a second worker leaves",
        when=lambda scene: scene.second.joined() and scene.generating(),
        inject=lambda scene: scene.second.leave(),
    ),
)
