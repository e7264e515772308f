"""The model that the stack asks: right answers after a while, and how many are being written now."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ..provider import serving
from .answers import answer

WRITES_S = 0.3
"""Long enough that at the load's rate some generation is always under way."""


class Model:
    """See the module."""

    def __init__(self) -> None:
        self.url = ""
        self.writes_s = WRITES_S
        self.asked = 0
        """Answers that were begun."""
        self._lock = threading.Lock()
        self._writing = 0
        self._never = threading.Event()

    @property
    def writing(self) -> int:
        """Answers that are being written at this moment."""
        return self._writing

    def says(self, asked: str, _: str) -> str:
        with self._lock:
            self.asked += 1
            self._writing += 1
        self._never.wait(self.writes_s)
        with self._lock:
            self._writing -= 1
        return answer(asked)


@contextmanager
def served_model() -> Iterator[Model]:
    """The model, at its address."""
    model = Model()
    with serving(model.says) as model.url:
        yield model
