"""A Qdrant server that a benchmark measures: collections of its own on it, which are gone in the end."""

import time
import uuid
from typing import Any

from forebay_jobs.caches.questions import qdrant_client
from forebay_schemas.errors import ForebayError
from forebay_schemas.sections import SemanticConfig

_BUILT_WITHIN_S = 1_800


class QdrantServer:
    """See the module.

    Args:
        reached: how: its url, key and certificates.
    """

    def __init__(self, reached: SemanticConfig) -> None:
        self._reached = reached
        self._prefix = f"bench-{uuid.uuid4().hex[:8]}"
        self._count = 0

    @property
    def name(self) -> str:
        """What tables say of it."""
        return f"Qdrant at {self._reached.url}"

    def own(self, settings: SemanticConfig) -> SemanticConfig:
        """The same settings with a collection that nobody else has, on this server."""
        self._count += 1
        reached = {field: getattr(self._reached, field) for field in ("url", "api_key", "tls")}
        return settings.model_copy(update={**reached, "collection": f"{self._prefix}-{self._count}"})

    def wait_until_built(self) -> None:
        """Return when it has built what it builds by itself.

        Raises:
            ForebayError: it takes half an hour.
        """
        from qdrant_client.models import CollectionStatus

        deadline = time.monotonic() + _BUILT_WITHIN_S
        client = qdrant_client(self._reached)
        while any(client.get_collection(name).status is not CollectionStatus.GREEN for name in self._made(client)):
            if time.monotonic() > deadline:
                raise ForebayError(
                    f"the server at {self._reached.url} still builds after {_BUILT_WITHIN_S} s; see its log"
                )
            time.sleep(0.5)
        client.close()

    def close(self) -> None:
        """Remove the collections that were made."""
        client = qdrant_client(self._reached)
        for name in self._made(client):
            client.delete_collection(name)
        client.close()

    def _made(self, client: Any) -> list[str]:
        # To what the settings say the job adds the model's version.
        return [one.name for one in client.get_collections().collections if one.name.startswith(f"{self._prefix}-")]
