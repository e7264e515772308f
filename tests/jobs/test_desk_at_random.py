"""Whatever happens in whatever order: every request is answered, once where nothing failed, within its tenant."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay_jobs.control import Commands
from forebay_jobs.desk import Desk
from forebay_jobs.intake import Intake
from forebay_jobs.messages import Arrival, Cancel, Incoming, Invalidate, Outgoing
from forebay_schemas import commands
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import load_config
from forebay_schemas.invalidation import Invalidation
from forebay_schemas.records import (
    CacheOptions,
    CachePolicy,
    Control,
    Lane,
    Reply,
    ReplyError,
    Request,
    Result,
    Task,
    Usage,
)
from forebay_schemas.sections import AuditsConfig
from forebay_schemas.validation import expired
from hypothesis import example, given
from hypothesis import strategies as st

from tests.builders import NOW_MS, make_request
from tests.jobs.doubles import (
    CODEC,
    Meaning,
    MemoryAnswers,
    MemoryIndex,
    MemoryState,
    a_dispatcher,
    cancelled_task,
    events,
    is_reply,
    is_task,
    metrics,
    reply_of,
    reply_to,
    task_of,
    the_shadows,
)

CONFIG = load_config().model_copy(
    update={
        "categories": {"default": CategoryConfig(policy="fixed")},
        "audits": AuditsConfig(share=0, remembered=0),  # what the job asks itself answers nobody
    }
)
ERRORS = {
    "broken": ReplyError(code="engine_failed", message="broken", retryable=True),
    "refused": ReplyError(code="engine_refused", message="refused", retryable=False),
    "late": ReplyError(code="deadline_exceeded", message="late", retryable=False),
    "cancelled": ReplyError(code="cancelled", message="taken back", retryable=False),
}
LOGS = ("requests", "results", "control")


@dataclass
class World:
    """The job on its logs, a worker that takes tasks in any order, each once, and Redis; the job may be set back."""

    logs: dict[str, list[bytes]] = field(default_factory=lambda: {name: [] for name in LOGS})
    read: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LOGS, 0))
    checkpoints: list[tuple[MemoryState, dict[str, int]]] = field(default_factory=list)
    state: MemoryState = field(default_factory=MemoryState)
    now_ms: int = NOW_MS
    tasks: list[Task] = field(default_factory=list)
    known_tasks: list[str] = field(default_factory=list)
    generated: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    requests: dict[str, Request] = field(default_factory=dict)
    was_away: bool = False
    republished: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    """Requests that were read while Redis was away."""
    invalidations: int = 0
    acknowledged: dict[str, tuple[str | None, int, int]] = field(default_factory=dict)
    """By its id, of each invalidation that holds its tenant, and how many requests and tasks there were before."""

    def __post_init__(self) -> None:
        self.answers = MemoryAnswers(CONFIG)
        self.index = MemoryIndex()
        self.commands = Commands(CODEC, self.answers)
        self.counted = metrics()
        self.intake = Intake(CONFIG, CODEC, self.answers, self.counted)
        self.desk = self.a_desk()
        self.checkpoint()

    def a_desk(self) -> Desk:
        """One that remembers nothing."""
        counted = self.counted
        semantic = Meaning(CONFIG, self.index, self.answers, counted).cache
        dispatcher, shadows = a_dispatcher(CONFIG, counted), the_shadows(CONFIG, counted)
        return Desk(CONFIG, CODEC, self.answers, semantic, dispatcher, shadows, counted)

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

    def cancel(self, number: int) -> None:
        if self.requests:
            request = list(self.requests.values())[number % len(self.requests)]
            arguments = {"tenant": request.tenant, "request_id": request.request_id}
            self._append("control", Control(
                key="cancel", command="cancel", issued_ms=self.now_ms, issued_by="test", arguments=arguments
            ))  # fmt: skip

    def work(self, number: int, outcome: str) -> None:
        if not self.tasks:
            return
        task = self.tasks.pop(number % len(self.tasks))
        request = CODEC.decode(task.request, Request)
        if expired(request, self.now_ms):
            outcome = "late"
        finish_reason = "length" if outcome == "cut" else "stop"
        # An answer that is given again tells by this which task it is of.
        usage = Usage(prompt_tokens=self.known_tasks.index(task.task_id))
        reply = reply_to(task, error=ERRORS.get(outcome), finish_reason=finish_reason, usage=usage)
        self.replies.append(reply)
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=CODEC.encode(reply))
        self._append("results", result)

    def pass_time(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self._write(self.desk.tick(self.state, self.now_ms))

    def redis(self, away: bool) -> None:
        self.answers.away = away
        self.was_away |= away

    def flush(self) -> None:
        """Redis loses its memory."""
        self.answers.flush()

    def invalidate(self, filters: dict[str, Any]) -> None:
        self.invalidations += 1
        self._append("control", commands.invalidate(
            Invalidation(**filters), str(self.invalidations), issued_by="test", issued_ms=self.now_ms
        ))  # fmt: skip

    def checkpoint(self) -> None:
        self.checkpoints.append((self.state.copy(), dict(self.read)))

    def restore(self, back: int = 0, order: Sequence[str] = LOGS) -> None:
        """The job begins anew at one of its checkpoints, and reads one log after the other."""
        del self.checkpoints[max(1, len(self.checkpoints) - back) :]
        state, read = self.checkpoints[-1]
        self.state, self.read, self.desk = state.copy(), dict(read), self.a_desk()
        for name in order:
            self._read_on(name)

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
        self._append("requests", request)

    def _append(self, name: str, record: Request | Result | Control) -> None:
        self.logs[name].append(CODEC.encode(record))
        self._read_on(name)

    def _read_on(self, name: str) -> None:
        while self.read[name] < len(self.logs[name]):
            offset = self.read[name]
            self.read[name] += 1
            getattr(self, f"_take_{name}")(self.logs[name][offset], offset)

    def _take_requests(self, value: bytes, offset: int) -> None:
        request = CODEC.decode(value, Request)
        lane = request.lane
        self.blind |= {request.request_id} if self.answers.away else set()
        record = Incoming(topic=f"requests.{lane}", partition=0, offset=offset, value=value, headers={})
        for item in self.intake.take(record, lane, self.now_ms):
            self._write(self.desk.arrive(self.state, item, self.now_ms) if isinstance(item, Arrival) else [item])

    def _take_results(self, value: bytes, offset: int) -> None:
        self._write(self.desk.settle(self.state, CODEC.decode(value, Result), self.now_ms))

    def _take_control(self, value: bytes, offset: int) -> None:
        command = self.commands.take(value, f"control/0/{offset}")
        if isinstance(command, Cancel):
            self._write(self.desk.cancel(self.state, command, self.now_ms))
        elif isinstance(command, Invalidate):
            self._write(self.desk.invalidate(self.state, command, self.now_ms))

    def _write(self, sent: list[Outgoing]) -> None:
        for one in sent:
            if is_reply(one):
                self.replies.append(reply_of(one))
            elif one.topic == "llm.events":
                (event,) = events([one])
                if event.attributes["outcome"] == "applied":  # again where it is read again and Redis forgot it
                    held = event.attributes.get("tenant"), len(self.requests), len(self.known_tasks)
                    self.acknowledged.setdefault(event.attributes["id"], held)
            elif not is_task(one):
                task_id = cancelled_task([one])
                running = [number for number, task in enumerate(self.tasks) if task.task_id == task_id]
                for number in running:
                    self.work(number, "cancelled")
            elif (task := task_of(one)).task_id not in self.known_tasks:  # workers pass over repeats
                self.known_tasks.append(task.task_id)
                self.generated.append(CODEC.decode(task.request, Request))
                self.tasks.append(task)


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
    *[
        st.tuples(
            st.just("work"), st.integers(0, 9), st.sampled_from(["done", "done", "cut", "broken", "refused", "late"])
        )
    ]
    * 3,
    st.tuples(st.sampled_from(["publish_again", "cancel"]), st.integers(0, 9)),
    st.tuples(st.just("redis"), st.booleans()),
    st.tuples(st.just("invalidate"), st.sampled_from([{"tenant": "acme"}, {"model": "llama-3.1-8b"}])),
)
_failures = st.one_of(
    st.tuples(st.just("checkpoint")),
    st.tuples(st.just("restore"), st.integers(0, 2), st.permutations(LOGS)),
    st.tuples(st.just("flush")),
)


def _act(world: World, events: list[tuple[Any, ...]]) -> None:
    for name, *arguments in events:
        if name == "ask":
            world.ask(**arguments[0])
        else:
            getattr(world, name)(*arguments)


def _play(events: list[tuple[Any, ...]]) -> World:
    world = World()
    _act(world, events)
    world.come_to_an_end()
    return world


def _assert_none_is_stale(world: World) -> None:
    """Whoever asked after an invalidation was acknowledged got nothing that was begun before."""
    numbers = {request_id: number for number, request_id in enumerate(world.requests)}
    for reply in world.replies:
        # Without Redis nobody can tell what was begun before, and equal requests share what is in flight all the same.
        if reply.error is not None or reply.request_id in world.blind:
            continue
        for tenant, requests, tasks in world.acknowledged.values():
            if tenant in (None, reply.tenant) and numbers[reply.request_id] >= requests:
                assert reply.usage.prompt_tokens >= tasks


def _assert_none_is_generated_twice(world: World) -> None:
    """However often a record was read, it had one task, which a worker takes once."""
    counts = Counter(request.request_id for request in world.generated)
    assert all(count == 1 for name, count in counts.items() if name not in world.republished)


def _assert_all_are_served(world: World) -> None:
    _assert_none_is_stale(world)
    _assert_none_is_generated_twice(world)
    assert len(world.acknowledged) == world.invalidations
    assert world.state.empty
    assert {reply.request_id for reply in world.replies} == world.requests.keys()
    for reply in world.replies:
        request = world.requests[reply.request_id]
        assert reply.tenant == request.tenant
        if reply.error is None:
            assert reply.text.startswith(f"for {request.tenant}: ")
            assert reply.cache_status == "semantic" or reply.text.endswith(request.messages[0].content or "")
            assert request.min_tier is None or (reply.route is not None and reply.route.tier == request.min_tier)


@given(events=st.lists(_events, min_size=20, max_size=50))
def test_every_request_is_answered_and_only_with_its_tenants_text(events: list[tuple[Any, ...]]) -> None:
    world = _play(events)
    _assert_all_are_served(world)
    # A job that was set back may find a request's own answer in the cache: its second reply, which a client drops.
    assert all(
        reply.cache_status == "semantic" or reply.matched_request_id != reply.request_id for reply in world.replies
    )
    counts = Counter(reply.request_id for reply in world.replies)
    # Published twice while Redis was away, or with a deadline that passed, or after a failure that invites to it:
    # then a client drops the second reply.
    excused = {name for name, request in world.requests.items() if request.deadline_ms or world.was_away}
    excused |= {reply.request_id for reply in world.replies if reply.error and reply.error.retryable}
    assert all(count == 1 or name in world.republished & excused for name, count in counts.items())


_ASK = ("ask", {"question": "Why?", "tenant": "acme"})


@given(events=st.lists(_events | _failures, min_size=20, max_size=50))
@example(
    # Between the checkpoint and the failure a follower joined, and the result of its leader is read before either.
    events=[("checkpoint",), _ASK, ("pass_time", 5), _ASK, ("work", 0, "cut"), ("restore", 0, ("results", "requests"))]
)
def test_a_job_that_is_set_back_to_its_checkpoints_answers_every_request_too(events: list[tuple[Any, ...]]) -> None:
    _assert_all_are_served(_play(events))


@given(
    before=st.lists(_events, max_size=10), after=st.lists(_events | _failures, max_size=20), end=st.permutations(LOGS)
)
def test_a_job_that_is_set_back_waits_for_no_result_that_it_was_told(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], end: list[str]
) -> None:
    """Within the time that results are kept, all who wait are answered: no flight must first be given up."""
    world = World()
    _act(world, [*before, ("checkpoint",), *after])
    world.redis(False)
    while world.tasks:
        world.work(0, "done")
    world.restore(2, end)
    for _ in range(20):
        world.pass_time(1_000)
        while world.tasks:
            world.work(0, "done")
    assert not world.state.waiters
    assert all(flight.answer is not None for flight in map(world.state.flight, world.state.flights) if flight)


def test_a_request_that_is_published_again_while_it_waits_gets_no_second_reply() -> None:
    again = ("publish_again", 1)
    world = _play([_ASK, ("pass_time", 5), _ASK, ("redis", True), again, again, ("work", 0, "broken")])
    assert Counter(reply.request_id for reply in world.replies) == {"request-0": 1, "request-1": 1}
