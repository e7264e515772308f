"""What is fed: a function that takes an input, and good inputs to begin with."""

import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module

Take = Callable[[bytes], bool]
"""Takes one input: whether it was accepted. To refuse it by an error that is declared is as good; whatever else it
raises is a defect."""
COUNTS = struct.Struct("<QQd")
"""What a file tells of a run: inputs, those of them that were accepted, and seconds that the slowest took."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others write. Its module is imported when it is wanted: by the fuzzer, which has to see
    that, and not for the sake of other targets.

    Attributes:
        module: of this package.
        name: in the module: what builds its ``Take`` and leaves on a stack what is to be cleaned up; ``<name>_seeds``
            gives good inputs.
        share: of the inputs of the long form, against the other targets'.
    """

    module: str
    name: str
    share: int

    def build(self, stack: ExitStack) -> Take:
        return getattr(import_module(f".{self.module}", __package__), self.name)(stack)

    def seeds(self) -> list[bytes]:
        return getattr(import_module(f".{self.module}", __package__), f"{self.name}_seeds")()
