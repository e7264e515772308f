"""The ways of a worker in and out: what was read on one is committed on it or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .intake import Owner
from .transactions import Committed, Share


class Source(Protocol):
    """A topic of tasks; see ``intake.Intake``."""

    topic: str
    group: Any

    async def open(self, owner: Owner) -> None: ...

    async def run(self) -> None: ...

    def refresh(self) -> None: ...

    async def close(self) -> None: ...


class Publisher(Protocol):
    """Where outcomes go; see ``transactions.Transactions``."""

    async def open(self) -> None: ...

    async def commit(self, shares: Sequence[Share]) -> Committed: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """Topics that are read and where outcomes go, which are opened and given up together."""

    sources: Sequence[Source]
    publisher: Publisher
