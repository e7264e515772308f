"""Commands to forget a tenant or a user: what the job alone can reach, the index and what policies have learned."""

import logging
from collections.abc import Sequence

import msgspec
from forebay_schemas.codec import Codec
from forebay_schemas.commands import FORGOTTEN
from forebay_schemas.config import Config
from forebay_schemas.records import Event

from .caches.guard import is_failure
from .caches.questions import Removed
from .caches.semantic import SemanticCache
from .desk_state import DeskState
from .messages import Forget, Outgoing
from .reuse.namespaces import Namespaces, is_of

logger = logging.getLogger(__name__)


class Forgetting:
    """One for all buckets of a slot. Each bucket acknowledges what it did; the first one cleans the index too."""

    def __init__(
        self, config: Config, codec: Codec, semantic: SemanticCache, namespaces: Namespaces, buckets: Sequence[str]
    ) -> None:
        self._topic = config.kafka.topics.events
        self._codec = codec
        self._semantic = semantic
        self._namespaces = namespaces
        self._buckets = buckets

    def take(self, state: DeskState, bucket: str, command: Forget, now_ms: int) -> list[Outgoing]:
        """Carry a command out in a bucket. Where the index cannot be reached its part is told as not done."""
        removed, problem = self._learned(state, command), ""
        if bucket == self._buckets[0]:
            try:
                indexed = self._semantic.forget(command.tenant, command.user)
                removed = Removed(found=removed.found + indexed.found, left=removed.left + indexed.left)
            except BaseException as error:
                if not is_failure(error):
                    raise
                logger.warning("the index forgets nothing: %s", type(error).__name__)
                problem = f"the index cannot be reached ({type(error).__name__})"
        attributes = {"id": command.id, "bucket": bucket, "buckets": str(len(self._buckets))}
        attributes |= {name: str(count) for name, count in msgspec.to_builtins(removed).items()}
        event = Event(
            event=FORGOTTEN,
            source="job",
            happened_ms=now_ms,
            attributes=attributes | ({"problem": problem} if problem else {}),
        )
        return [Outgoing(topic=self._topic, key=command.id.encode(), value=self._codec.encode(event))]

    def _learned(self, state: DeskState, command: Forget) -> Removed:
        """Sums are of a tenant, and of none of its users; nobody can take one user's part out of them."""
        if command.user is not None:
            return Removed()
        self._namespaces.forget(command.tenant)
        keys = [key for key in state.learned() if is_of(key, command.tenant)]
        for key in keys:
            state.drop_learned(key)
        return Removed(found=len(keys), left=sum(is_of(key, command.tenant) for key in state.learned()))
