"""Takes an audit through the calls of a log, in batches, until the log ends or somebody stops it."""

from collections.abc import Callable, Container, Iterable

from .accounting import BATCH, Audit
from .prices import UnknownModels
from .reading import Call


def run(
    calls: Iterable[Call],
    audit: Audit,
    priced: Container[str],
    told: Callable[[], None],
    stopped: Callable[[], bool],
) -> None:
    """Take all calls. Of a log with unpriced models the rest is only read, so that all of them are named at once.

    Args:
        priced: the models that have a price.
        told: called after each batch.
        stopped: asked before each call; the calls before it are all taken.

    Raises:
        UnknownModels: some calls cannot be priced.
    """
    unknown: set[str] = set()
    batch: list[Call] = []
    for call in calls:
        if stopped():
            break
        if call.model not in priced:
            unknown.add(call.model)
        elif not unknown:
            batch.append(call)
        if len(batch) == BATCH:
            audit.take(batch)
            batch = []
            told()
    if unknown:
        raise UnknownModels(unknown)
    audit.take(batch)
