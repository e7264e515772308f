"""An answer store on a real Redis, with what tests want to do to it."""

from typing import Any

import msgspec
from forebay_jobs.caches.answers import Answer, AnswerStore, Lookup
from forebay_jobs.caches.epochs import new_mark
from forebay_jobs.caches.redis_store import RedisStore
from forebay_schemas.canonical import digests
from forebay_schemas.config import Config
from forebay_schemas.invalidation import Invalidation, InvalidationOutcome
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.records import CacheOptions, Request

from tests.builders import make_reply, make_request
from tests.jobs.doubles import metrics
from tests.redis_server import RedisServer

PREFIX = "llm:3"
REQUEST = make_request(cache=CacheOptions(sources=["prices", "stock"]), category="shop", prompt_version="v7")


def open_answers(config: Config, counted: JobMetrics) -> AnswerStore:
    return AnswerStore(config, RedisStore(config, counted))


class Store:
    """An answer store with what a test wants to do to it."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        self.metrics: JobMetrics = metrics()
        self.store = open_answers(server.config(retry_after_ms=10, **settings), self.metrics)
        self.redis = server.client()
        self.offset = 0

    def look(self, request: Request, *, read: bool = True, origin: str | None = None) -> Lookup:
        self.offset += 1
        return self.store.look(request, digests(request).exact, origin or f"requests/0/{self.offset}", read=read)

    def fill(self, request: Request, epochs: dict[str, str] | None = None, **fields: Any) -> Answer:
        """Keep an answer as the desk does, under the epochs of a lookup."""
        epochs = epochs or self.epochs(request)
        answer = Answer.of(make_reply(**fields), epochs, request.cache.ttl_s)
        assert self.store.keep(digests(request).exact, answer, 60)
        return answer

    def epochs(self, request: Request) -> dict[str, str]:
        """The epochs, read without noting an id that a test uses."""
        found = self.look(make_request_like(request)).epochs
        assert found is not None
        return found

    def found(self, request: Request) -> Answer | None:
        return self.look(make_request_like(request)).answer

    def invalidate(self, name: str | None = None, /, **filters: Any) -> InvalidationOutcome | None:
        """A command to invalidate is applied, under a name of its own where none is given."""
        return self.store.invalidate(Invalidation(**filters), name or new_mark())

    def answer_key(self, request: Request) -> str:
        return f"{PREFIX}:answer:{digests(request).exact}"

    def errors(self) -> float:
        return self.metrics.store_errors.labels("redis")._value.get()

    def up(self) -> float:
        return self.metrics.store_up.labels("redis")._value.get()

    def memory(self) -> float:
        (metric,) = self.metrics.memory.collect()
        return metric.samples[0].value


def make_request_like(request: Request) -> Request:
    """An equal request under an id that nobody used."""
    return msgspec.structs.replace(request, request_id=new_mark())
