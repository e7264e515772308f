"""What a process of a benchmark says and is told: lines of JSON on its standard input and output."""

import os
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec


class Answers:
    """The answering end. From its making on, what is printed goes to standard error, and so to the process's log."""

    def __init__(self) -> None:
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def tell(self, message: msgspec.Struct) -> None:
        """Say something without being asked."""
        self._out.write(msgspec.json.encode(message) + b"\n")
        self._out.flush()

    def serve(self, question: Any, answer: Callable[[Any], msgspec.Struct]) -> None:
        """Answer every line of standard input until its end.

        Args:
            question: the type of what a line holds, a struct or a union of tagged ones.
        """
        for line in sys.stdin.buffer:
            self.tell(answer(msgspec.json.decode(line, type=question)))
