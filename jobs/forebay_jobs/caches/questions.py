"""The semantic cache: questions by meaning in Qdrant, each pointing to its answer by digest.

The index holds no answers: a neighbour counts only if the exact cache still has its answer under epochs that
hold, so there is one place where an answer can be stale, and it is checked.
"""

import fcntl
import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgspec
import numpy as np
import numpy.typing as npt
from forebay_schemas.errors import ForebayError
from forebay_schemas.sections import SemanticConfig

from .edge_shard import EdgeShard
from .guard import is_failure

Vector = npt.NDArray[np.float32]

# A context is within one tenant and one category (or what tenants share of one), and every search is within one
# context. So the context is what the index is partitioned by, the engines' word for which is tenant: each has a graph
# of its own (`payload_m`) where it is large, and there is none over all of them (`m`), which no search would use.
HNSW_M = 16
HNSW_EF = 128
"""Candidates that building and searching keep."""
_FULL_SCAN_KB = 10_000
"""Of vectors, below which a context is searched without a graph: 6,500 of 384 dimensions, in some 0.5 ms."""
_QUANTILE = 0.99
"""Of the vectors' components that int8 tells apart; those beyond are cut off, and told apart by rescoring."""

_LISTED = ["category", "created_ms"]

logger = logging.getLogger(__name__)


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
    user: str | None = None


class Indexed(msgspec.Struct, frozen=True, kw_only=True):
    """What the index tells of a question without its vector."""

    digest: str
    category: str
    created_ms: int


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What there was to remove, and how much of it is there still."""

    found: int = 0
    left: int = 0


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the index, which is ordered by digest: a fair sample of it."""

    questions: list[Indexed]
    next: str | None
    """The digest with which the next page begins; None at the end."""


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

    def remove(self, *digests: str) -> None:
        """Forget questions; one that is not there is no error."""
        ...

    def forget(self, tenant: str, user: str | None) -> Removed:
        """Remove the questions of a tenant, or of one of its users, and count again."""
        ...

    def close(self) -> None:
        """Write what is pending and release the index."""
        ...


class SweepableIndex(QuestionIndex, Protocol):
    """What it has to do besides, away from requests."""

    def count(self) -> int:
        """How many questions there are, about."""
        ...

    def page(self, begin: str | None, limit: int) -> Page:
        """At most ``limit`` questions from a digest on, or from the first."""
        ...

    def optimise(self, stop: threading.Event) -> None:
        """Build what makes searching fast, where enough has changed and the engine does not do so by itself.

        May take minutes, while all else goes on.

        Args:
            stop: when set, this returns soon.
        """
        ...


def open_index(settings: SemanticConfig, dimensions: int, version: str) -> SweepableIndex:
    """The configured engine.

    Args:
        settings: url for a Qdrant server, else the folder of the embedded engine.
        dimensions: of the vectors.
        version: of the embedding model; each version has an index of its own, so vectors never mix.
    """
    if settings.url is None:
        return EdgeIndex(settings.path / version, dimensions, settings)
    # Whole seconds: the client hands the number to the server, which takes nothing finer.
    client = qdrant_client(settings, timeout=max(1, round(settings.timeout_ms / 1000)))
    return ServerIndex(client, f"{settings.collection}-{version}", dimensions, settings)


def qdrant_client(settings: SemanticConfig, **options: Any) -> Any:
    """A client of the configured server, with the key and the certificates that it asks for.

    Args:
        options: of ``qdrant_client.QdrantClient`` besides.
    """
    from qdrant_client import QdrantClient  # the embedded engine needs no client

    if settings.url is not None and settings.url.startswith("https:"):
        options["verify"] = settings.tls.context()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return QdrantClient(url=settings.url, api_key=key, **options)


class EdgeIndex:
    """Qdrant Edge: the engine in this process, in a folder that one process may open.

    Where another process has it open, if only one that stands still, or where a disk is full or read-only, it does not
    open; then every call tries again, and fails until it does.
    """

    def __init__(self, folder: Path, dimensions: int, settings: SemanticConfig) -> None:
        import qdrant_edge as edge

        self._folder = folder
        int8 = edge.ScalarQuantizationConfig(edge.ScalarType.Int8, quantile=_QUANTILE, always_ram=True)
        self._config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(
                size=dimensions,
                distance=edge.Distance.Cosine,
                quantization_config=int8 if settings.int8 else None,
            ),
            hnsw_config=edge.HnswIndexConfig(
                m=0, payload_m=HNSW_M, ef_construct=HNSW_EF, full_scan_threshold=_FULL_SCAN_KB
            ),
        )
        self._params = edge.SearchParams(
            hnsw_ef=HNSW_EF,
            quantization=edge.QuantizationSearchParams(rescore=True, oversampling=settings.oversampling),
        )
        self._opening = threading.Lock()
        self._lock_file: TextIO | None = None
        self._opened: EdgeShard | None = None
        self._closed = False
        try:
            self._open()
        except BaseException as error:
            if not is_failure(error):
                raise
            logger.warning("the index in %s cannot be opened, going on without it (%s)", folder, error)

    def nearest(self, vectors: Vector, contexts: Sequence[str], limit: int) -> list[list[Neighbour]]:
        import qdrant_edge as edge

        requests = [
            edge.QueryRequest(
                limit=limit,
                query=edge.Query.Nearest(vector.tolist()),
                filter=edge.Filter(must=[edge.FieldCondition("context", match=edge.MatchValue(context))]),
                params=self._params,
                with_payload=False,
            )
            for vector, context in zip(vectors, contexts, strict=True)
        ]
        found = self._shard.query_batch(edge.QueryBatchRequest(requests)) if requests else []
        return [_neighbours(points) for points in found]

    def add(self, question: Question, vector: Vector) -> None:
        import qdrant_edge as edge

        point = edge.Point(_point_id(question.digest), vector.tolist(), _payload(question))
        self._shard.update(edge.UpdateOperation.upsert_points([point]))

    def remove(self, *digests: str) -> None:
        import qdrant_edge as edge

        points: list[Any] = [_point_id(digest) for digest in digests]
        self._shard.update(edge.UpdateOperation.delete_points(points), points=len(points))

    def forget(self, tenant: str, user: str | None) -> Removed:
        import qdrant_edge as edge

        named = {"tenant": tenant} | ({"user": user} if user is not None else {})
        theirs = edge.Filter(
            must=[edge.FieldCondition(name, match=edge.MatchValue(value)) for name, value in named.items()]
        )
        found = self._shard.count(theirs)
        if found:
            self._shard.update(edge.UpdateOperation.delete_points_by_filter(theirs), points=found)
        return Removed(found=found, left=self._shard.count(theirs))

    def count(self) -> int:
        return self._shard.count()

    def page(self, begin: str | None, limit: int) -> Page:
        import qdrant_edge as edge

        offset = _point_id(begin) if begin else None
        return _page(*self._shard.scroll(edge.ScrollRequest(offset=offset, limit=limit, with_payload=_LISTED)))

    def optimise(self, stop: threading.Event) -> None:
        self._shard.optimise(stop)

    def close(self) -> None:
        with self._opening:
            self._closed = True
            if self._opened is not None:
                self._opened.close()
            if self._lock_file is not None:
                self._lock_file.close()

    @property
    def _shard(self) -> EdgeShard:
        return self._opened or self._open()

    def _open(self) -> EdgeShard:
        import qdrant_edge as edge

        with self._opening:
            if self._closed:
                raise RuntimeError("the index is closed")  # a successor may have opened it
            if self._lock_file is None:
                self._lock_file = _locked(self._folder)
            if self._opened is None:
                fields = {"context": edge.KeywordIndexParams(is_tenant=True)}
                self._opened = EdgeShard(self._folder, self._config, fields)
            return self._opened


class ServerIndex:
    """A Qdrant server through qdrant-client (or the client's local mode)."""

    def __init__(self, client: Any, collection: str, dimensions: int, settings: SemanticConfig) -> None:
        from qdrant_client import models

        self._client = client
        self._models = models
        self._collection = collection
        self._dimensions = dimensions
        self._int8 = settings.int8
        self._params = models.SearchParams(
            hnsw_ef=HNSW_EF,
            quantization=models.QuantizationSearchParams(rescore=True, oversampling=settings.oversampling),
        )
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
                params=self._params,
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

    def remove(self, *digests: str) -> None:
        if not digests:  # which the server refuses
            return
        with self._collection_there():
            self._client.delete(self._collection, [str(_point_id(digest)) for digest in digests], wait=True)

    def forget(self, tenant: str, user: str | None) -> Removed:
        models = self._models
        named = {"tenant": tenant} | ({"user": user} if user is not None else {})
        theirs = models.Filter(
            must=[
                models.FieldCondition(key=name, match=models.MatchValue(value=value)) for name, value in named.items()
            ]
        )
        with self._collection_there():
            found = self._client.count(self._collection, theirs, exact=True).count
            if found:
                self._client.delete(self._collection, models.FilterSelector(filter=theirs), wait=True)
            left = self._client.count(self._collection, theirs, exact=True).count
        return Removed(found=found, left=left)

    def count(self) -> int:
        with self._collection_there():
            return self._client.count(self._collection, exact=False).count

    def page(self, begin: str | None, limit: int) -> Page:
        offset = str(_point_id(begin)) if begin else None
        with self._collection_there():
            return _page(*self._client.scroll(self._collection, limit=limit, offset=offset, with_payload=_LISTED))

    def optimise(self, stop: threading.Event) -> None:
        """Nothing: a server optimises by itself, in threads of its own."""

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
            int8 = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=_QUANTILE, always_ram=True)
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(
                    size=self._dimensions,
                    distance=models.Distance.COSINE,
                    on_disk=self._int8,
                    quantization_config=models.ScalarQuantization(scalar=int8) if self._int8 else None,
                ),
                hnsw_config=models.HnswConfigDiff(
                    m=0, payload_m=HNSW_M, ef_construct=HNSW_EF, full_scan_threshold=_FULL_SCAN_KB
                ),
            )
            schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            self._client.create_payload_index(self._collection, "context", schema)


def _locked(folder: Path) -> TextIO:
    """A file that is locked for as long as it is open."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ForebayError(
            "semantic.path: another process uses it; the embedded index serves one process: end the other, or set"
            " semantic.url to a Qdrant server to run several"
        ) from None
    return file


def _neighbours(points: Sequence[Any]) -> list[Neighbour]:
    return [Neighbour(digest=uuid.UUID(str(point.id)).hex, similarity=float(point.score)) for point in points]


def _page(records: Sequence[Any], offset: Any) -> Page:
    questions = [
        Indexed(digest=uuid.UUID(str(record.id)).hex, **{field: record.payload[field] for field in _LISTED})
        for record in records
    ]
    return Page(questions=questions, next=None if offset is None else uuid.UUID(str(offset)).hex)


def _point_id(digest: str) -> uuid.UUID:
    return uuid.UUID(hex=digest)  # a digest has the 128 bits of a UUID


def _payload(question: Question) -> dict[str, Any]:
    return {
        "context": question.context,
        "category": question.category,
        "tenant": question.tenant,
        "created_ms": question.created_ms,
    } | ({"user": question.user} if question.user is not None else {})
