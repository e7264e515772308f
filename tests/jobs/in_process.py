"""Intake, desk and both caches in one process, over stores in memory."""

from forebay_jobs.arms import Arms
from forebay_jobs.desk import Desk
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Incoming, Outgoing
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import CacheStatus, Reply, Request, Result, Task

from tests.builders import NOW_MS

from .doubles import (
    CODEC,
    LetterEmbedder,
    Meaning,
    MemoryAnswers,
    MemoryIndex,
    MemoryState,
    a_dispatcher,
    is_reply,
    is_task,
    metrics,
    reply_of,
    reply_to,
    task_of,
    the_shadows,
)


class Pipeline:
    """Intake, desk and both caches in one process; a worker answers when a test lets it."""

    def __init__(self, config: Config | None = None, embedder: LetterEmbedder | None = None) -> None:
        fixed = CategoryConfig(policy="fixed", similarity=0.95)  # reuses whatever is near
        config, counted = (config or load_config()).model_copy(update={"categories": {"default": fixed}}), metrics()
        self.arms = Arms(config)
        self.answers = MemoryAnswers(config)
        self.intake = Intake(config, CODEC, self.answers, counted, self.arms)
        self.embedder = embedder or LetterEmbedder()
        meaning = Meaning(config, MemoryIndex(), self.answers, counted, embedder=self.embedder, arms=self.arms)
        dispatcher = a_dispatcher(config, counted, self.arms)
        shadows = the_shadows(config, counted)
        self.desk = Desk(config, CODEC, self.answers, meaning.cache, dispatcher, shadows, counted, self.arms)
        self.state = MemoryState()
        self.now_ms = NOW_MS
        self.offset = 0

    def ask(self, request: Request) -> list[Outgoing]:
        """A request arrives, and the desk's batch window ends."""
        self.offset += 1
        record = Incoming(
            topic="llm.requests", partition=0, offset=self.offset, value=CODEC.encode(request), headers={}
        )
        sent: list[Outgoing] = []
        for item in self.intake.take(record, request.lane, self.now_ms):
            sent += self.desk.arrive(self.state, item, self.now_ms) if isinstance(item, Arrival) else [item]
        return sent + self.desk.tick(self.state, self.now_ms)

    def answer(self, sent: list[Outgoing]) -> list[Outgoing]:
        """The worker's answer to the one task among what was sent; long enough ago that no flight lingers."""
        (task,) = (task_of(one) for one in sent if is_task(one))
        released = self.settle(task, reply_to(task))
        self.now_ms += 60_000
        self.desk.tick(self.state, self.now_ms)
        return released

    def settle(self, task: Task, reply: Reply) -> list[Outgoing]:
        """A worker's result for a task arrives."""
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=CODEC.encode(reply))
        return self.desk.settle(self.state, result, self.now_ms)

    def restart(self) -> None:
        """The job begins anew, knows nothing of what waited, and is to read the last record again."""
        self.state = MemoryState()
        self.offset -= 1

    def how(self, request: Request) -> CacheStatus | None:
        """How a request is answered at once; None: it is generated."""
        found = [reply_of(one) for one in self.ask(request) if is_reply(one)]
        return found[0].cache_status if found else None
