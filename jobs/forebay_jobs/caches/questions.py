"""The semantic cache: questions by meaning in Qdrant, each pointing to its answer by digest.

The index holds no answers: a neighbour counts only if the exact cache still has its answer under epochs that
hold, so there is one place where an answer can be stale, and it is checked.
"""

import fcntl
import logging
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ConfigError
from forebay_schemas.sections import SemanticConfig

from .guard import is_failure

Vector = npt.NDArray[np.float32]

logger = logging.getLogger(__name__)

HNSW_M = 16
HNSW_EF_CONSTRUCT = 128


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A known question near another one, with an equal context."""

    digest: str
    similarity: float
    """Cosine, in [-1, 1]."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question as it is indexed."""

    digest: str
    """Of its whole request: where its answer is."""
    context: str
    """Digest of everything around the question; only equal ones are compared."""
    category: str
    tenant: str
    created_ms: int


class QuestionIndex(Protocol):
    """What an engine has to do. Implementations are safe to share between threads; failures raise."""

    def nearest(self, vectors: Vector, contexts: Sequence[str], limit: int) -> list[list[Neighbour]]:
        """The questions nearest to each row of ``vectors`` (n x dimensions, unit length) in its context.

        Returns:
            For each row at most ``limit``, by falling similarity.
        """
        ...

    def add(self, question: Question, vector: Vector) -> None:
        """Insert or replace a question; it can be found as soon as this returns."""
        ...

    def remove(self, digest: str) -> None:
        """Forget a question; one that is not there is no error."""
        ...

    def close(self) -> None:
        """Write what is pending and release the index."""
        ...


def open_index(settings: SemanticConfig, dimensions: int, version: str) -> QuestionIndex:
    """The configured engine.

    Args:
        settings: url for a Qdrant server, else the folder of the embedded engine.
        dimensions: of the vectors.
        version: of the embedding model; each version has an index of its own, so vectors never mix.
    """
    if settings.url is None:
        return EdgeIndex(settings.path / version, dimensions)
    from qdrant_client import QdrantClient  # the embedded engine needs no client

    key = settings.api_key.get_secret_value() if settings.api_key else None
    # Whole seconds: the client hands the number to the server, which takes nothing finer.
    client = QdrantClient(url=settings.url, api_key=key, timeout=max(1, round(settings.timeout_ms / 1000)))
    return ServerIndex(client, f"{settings.collection}-{version}", dimensions)


class EdgeIndex:
    """Qdrant Edge: the engine in this process, in a folder that one process may open.

    Raises:
        ConfigError: on opening, where another process holds the folder.
    """

    def __init__(self, folder: Path, dimensions: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock_file = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise ConfigError(
                f"semantic.path: another process uses the index in {folder}; the embedded index serves one process,"
                " so set semantic.url to a Qdrant server to run several"
            ) from None
        self._shard = _open_shard(folder / "shard", dimensions)
        self._write = threading.Lock()

    def nearest(self, vectors: Vector, contexts: Sequence[str], limit: int) -> list[list[Neighbour]]:
        import qdrant_edge as edge

        requests = [
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(vector.tolist()),
                filter=edge.Filter(must=[edge.FieldCondition("context", match=edge.MatchValue(context))]),
                with_payload=False,
            )
            for vector, context in zip(vectors, contexts, strict=True)
        ]
        found = self._shard.query_batch(edge.QueryBatchRequest(requests)) if requests else []
        return [_neighbours(points) for points in found]

    def add(self, question: Question, vector: Vector) -> None:
        import qdrant_edge as edge

        point = edge.Point(_point_id(question.digest), vector.tolist(), _payload(question))
        with self._write:
            self._shard.update(edge.UpdateOperation.upsert_points([point]))

    def remove(self, digest: str) -> None:
        import qdrant_edge as edge

        with self._write:
            self._shard.update(edge.UpdateOperation.delete_points([_point_id(digest)]))

    def close(self) -> None:
        self._shard.close()
        self._lock_file.close()


class ServerIndex:
    """A Qdrant server through qdrant-client (or the client's local mode)."""

    def __init__(self, client: Any, collection: str, dimensions: int) -> None:
        from qdrant_client import models

        self._client = client
        self._models = models
        self._collection = collection
        self._dimensions = dimensions
        self._ready = False

    def nearest(self, vectors: Vector, contexts: Sequence[str], limit: int) -> list[list[Neighbour]]:
        if not len(vectors):
            return []
        models = self._models
        requests = [
            models.QueryRequest(
                query=vector.tolist(),
                limit=limit,
                filter=models.Filter(
                    must=[models.FieldCondition(key="context", match=models.MatchValue(value=context))]
                ),
            )
            for vector, context in zip(vectors, contexts, strict=True)
        ]
        with self._collection_there():
            found = self._client.query_batch_points(self._collection, requests=requests)
        return [_neighbours(response.points) for response in found]

    def add(self, question: Question, vector: Vector) -> None:
        point = self._models.PointStruct(
            id=str(_point_id(question.digest)), vector=vector.tolist(), payload=_payload(question)
        )
        with self._collection_there():
            self._client.upsert(self._collection, [point], wait=True)

    def remove(self, digest: str) -> None:
        with self._collection_there():
            self._client.delete(self._collection, [str(_point_id(digest))], wait=True)

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _collection_there(self) -> Iterator[None]:
        """Create the collection on first use, when the server may be up, and again where it was lost with a disk."""
        if not self._ready:
            self._create()
            self._ready = True
        try:
            yield
        except Exception:
            self._ready = False
            raise

    def _create(self) -> None:
        models = self._models
        if not self._client.collection_exists(self._collection):
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(size=self._dimensions, distance=models.Distance.COSINE),
                hnsw_config=models.HnswConfigDiff(m=HNSW_M, ef_construct=HNSW_EF_CONSTRUCT),
            )
            for field in ("context", "tenant", "category"):
                self._client.create_payload_index(self._collection, field, models.PayloadSchemaType.KEYWORD)


def _open_shard(folder: Path, dimensions: int) -> Any:
    import qdrant_edge as edge

    if folder.exists():
        try:
            return edge.EdgeShard.load(str(folder))
        except BaseException as error:
            if not is_failure(error):
                raise
            # A cache may be lost, but the job must start: keep the remains for whoever wants to look.
            broken = folder.with_name("shard.broken")
            logger.warning("the index in %s cannot be opened, starting an empty one (%s)", folder, error)
            shutil.rmtree(broken, ignore_errors=True)
            folder.rename(broken)
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(m=HNSW_M, ef_construct=HNSW_EF_CONSTRUCT, full_scan_threshold=10_000),
    )
    shard = edge.EdgeShard.create(str(folder), config)
    for field in ("context", "tenant", "category"):
        shard.update(edge.UpdateOperation.create_field_index(field, edge.PayloadSchemaType.Keyword))
    return shard


def _neighbours(points: Sequence[Any]) -> list[Neighbour]:
    return [Neighbour(digest=uuid.UUID(str(point.id)).hex, similarity=float(point.score)) for point in points]


def _point_id(digest: str) -> uuid.UUID:
    return uuid.UUID(hex=digest)  # a digest has the 128 bits of a UUID


def _payload(question: Question) -> dict[str, Any]:
    return {
        "context": question.context,
        "category": question.category,
        "tenant": question.tenant,
        "created_ms": question.created_ms,
    }
