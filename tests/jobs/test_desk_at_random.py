"""Whatever happens in whatever order: every request is answered, once where nothing failed, within its tenant."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from forebay_jobs.caches.semantic import SemanticCache
from forebay_jobs.desk import Desk
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Incoming, Outgoing
from forebay_schemas.config import load_config
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, Reply, ReplyError, Request, Result, Task
from forebay_schemas.validation import expired
from hypothesis import example, given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_request
from tests.jobs.doubles import (
    CODEC,
    LetterEmbedder,
    MemoryAnswers,
    MemoryIndex,
    MemoryState,
    a_dispatcher,
    is_task,
    metrics,
    reply_of,
    reply_to,
    task_of,
)

CONFIG = load_config()
ERRORS = {
    "broken": ReplyError(code="engine_failed", message="broken", retryable=True),
    "refused": ReplyError(code="engine_refused", message="refused", retryable=False),
    "late": ReplyError(code="deadline_exceeded", message="late", retryable=False),
}

Record = Incoming | Result


@dataclass
class World:
    """The job on its log of records, a worker that takes tasks in any order, and Redis; the job may be set back."""

    log: list[Record] = field(default_factory=list)
    read: int = 0
    state: MemoryState = field(default_factory=MemoryState)
    now_ms: int = NOW_MS
    tasks: list[Task] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)
    was_away: bool = False
    republished: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.answers = MemoryAnswers(CONFIG)
        self.index = MemoryIndex()
        counted = metrics()
        semantic = SemanticCache(CONFIG, LetterEmbedder(), self.index, self.answers, counted)
        self.intake = Intake(CONFIG, CODEC, self.answers, counted)
        self.desk = Desk(CONFIG, CODEC, self.answers, semantic, a_dispatcher(CONFIG, counted), counted)
        self.checkpoint()

    # What may happen

    def ask(self, question: str, **fields: Any) -> None:
        request_id = f"request-{len(self.requests)}"
        request = make_request(question, request_id=request_id, created_ms=self.now_ms, **fields)
        self.requests[request_id] = request
        self._publish(request)

    def publish_again(self, number: int) -> None:
        if self.requests:
            request = list(self.requests.values())[number % len(self.requests)]
            self.republished.add(request.request_id)
            self._publish(request)

    def work(self, number: int, outcome: str) -> None:
        if not self.tasks:
            return
        task = self.tasks.pop(number % len(self.tasks))
        request = CODEC.decode(task.request, Request)
        if expired(request, self.now_ms):
            outcome = "late"
        reply = reply_to(task, error=ERRORS.get(outcome), finish_reason="length" if outcome == "cut" else "stop")
        self.replies.append(reply)
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=CODEC.encode(reply))
        self.log.append(result)
        self._read_on()

    def pass_time(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self._write(self.desk.tick(self.state, self.now_ms))

    def redis(self, away: bool) -> None:
        self.answers.away = away
        self.was_away |= away

    def invalidate(self, scope: str) -> None:
        self.answers.invalidate(scope)

    def checkpoint(self) -> None:
        self._kept = self.state.copy(), self.read

    def restore(self) -> None:
        state, self.read = self._kept
        self.state = state.copy()
        self._read_on()

    # How it goes on

    def come_to_an_end(self) -> None:
        self.redis(False)
        for _ in range(200):
            self.pass_time(100)
            if not self.tasks:
                break
            self.work(0, "done")
        for _ in range(40):  # longer than a flight may last
            self.pass_time(61_000)
            while self.tasks:
                self.work(0, "done")

    def _publish(self, request: Request) -> None:
        place = {"topic": f"requests.{request.lane}", "partition": 0, "offset": len(self.log)}
        self.log.append(Incoming(**place, value=CODEC.encode(request), headers={}))
        self._read_on()

    def _read_on(self) -> None:
        while self.read < len(self.log):
            record = self.log[self.read]
            self.read += 1
            if isinstance(record, Result):
                self._write(self.desk.settle(self.state, record, self.now_ms))
                continue
            for item in self.intake.take(record, Lane(record.topic.removeprefix("requests.")), self.now_ms):
                if isinstance(item, Arrival):
                    self._write(self.desk.arrive(self.state, item, self.now_ms))
                else:
                    self._write([item])

    def _write(self, sent: list[Outgoing]) -> None:
        for one in sent:
            if is_task(one):
                self.tasks.append(task_of(one))
            else:
                self.replies.append(reply_of(one))


_asks = st.fixed_dictionaries(
    {
        # The second is near enough to the first for the letters' embedding, the third is not.
        "question": st.sampled_from(["How does it rain in Wales?"] * 3 + ["How does it rain at Wales?", "Why?"]),
        "tenant": st.sampled_from(["acme", "acme", "rival"]),
    },
    optional={
        "lane": st.sampled_from(Lane),
        "min_tier": st.sampled_from([None, None, "large"]),
        "cache": st.sampled_from([CacheOptions()] * 3 + [CacheOptions(policy=policy) for policy in CachePolicy]),
        "deadline_ms": st.sampled_from([NOW_MS + 50, NOW_MS + 3_000, NOW_MS + 100_000]),
    },
)
_events = st.one_of(
    *[st.tuples(st.just("ask"), _asks)] * 4,
    *[st.tuples(st.just("pass_time"), st.sampled_from([5, 5, 5, 900, 7_000, 70_000]))] * 3,
    *[st.tuples(st.just("work"), st.integers(0, 9), st.sampled_from(["done", "done", "cut", *ERRORS]))] * 3,
    st.tuples(st.just("publish_again"), st.integers(0, 9)),
    st.tuples(st.just("redis"), st.booleans()),
    st.tuples(st.just("invalidate"), st.sampled_from(["tenant:acme", "model:llama-3.1-8b"])),
)
_failures = st.tuples(st.sampled_from(["checkpoint", "restore"]))


def _play(events: list[tuple[Any, ...]]) -> World:
    world = World()
    for name, *arguments in events:
        if name == "ask":
            world.ask(**arguments[0])
        else:
            getattr(world, name)(*arguments)
    world.come_to_an_end()
    return world


def _assert_all_are_served(world: World) -> None:
    assert world.state.empty
    assert {reply.request_id for reply in world.replies} == world.requests.keys()
    for reply in world.replies:
        request = world.requests[reply.request_id]
        assert reply.tenant == request.tenant
        if reply.error is None:
            assert reply.text.startswith(f"for {request.tenant}: ")
            assert reply.cache_status == "semantic" or reply.text.endswith(request.messages[0].content or "")
            assert reply.cache_status == "semantic" or reply.matched_request_id != reply.request_id
            assert request.min_tier is None or (reply.route is not None and reply.route.tier == request.min_tier)


@given(events=st.lists(_events, min_size=20, max_size=50))
def test_every_request_is_answered_and_only_with_its_tenants_text(events: list[tuple[Any, ...]]) -> None:
    world = _play(events)
    _assert_all_are_served(world)
    counts = Counter(reply.request_id for reply in world.replies)
    # Published twice while Redis was away, or with a deadline that passed: then a client drops the second reply.
    excused = {name for name, request in world.requests.items() if request.deadline_ms or world.was_away}
    assert all(count == 1 or name in world.republished & excused for name, count in counts.items())


@given(events=st.lists(_events | _failures, min_size=20, max_size=50))
@example(
    # Between the checkpoint and the failure a follower joined, and the result of its leader is read before either.
    events=[
        ("checkpoint",), ("ask", {"question": "Why?", "tenant": "acme"}), ("pass_time", 5),
        ("ask", {"question": "Why?", "tenant": "acme"}), ("work", 0, "cut"), ("restore",),
    ]
)  # fmt: skip
def test_a_job_that_is_set_back_to_its_checkpoints_answers_every_request_too(events: list[tuple[Any, ...]]) -> None:
    _assert_all_are_served(_play(events))
