"""Requests, results and commands, through intake, desk and both caches of the job."""

import json
import random
from contextlib import ExitStack

import msgspec
from forebay_jobs.arms import Arms
from forebay_jobs.control import Commands
from forebay_jobs.invalidations import Invalidations
from forebay_jobs.messages import Arrival, Incoming, Invalidate, Outgoing
from forebay_schemas.commands import CANCEL, FORGET, INVALIDATE
from forebay_schemas.config import load_config
from forebay_schemas.errors import ErrorCode, ForebayError
from forebay_schemas.records import CacheScope, Control, DeadLetter, Lane, Reply, Request, Result
from forebay_schemas.rollouts import follow, of_control, to_control
from forebay_schemas.topics import HEADERS
from hypothesis import given

from tests.builders import NOW_MS, make_reply, make_request, make_rollout
from tests.jobs.doubles import CODEC, MemoryAnswers, MemoryState, is_reply, is_task, metrics, only_task, reply_of
from tests.jobs.in_process import Pipeline
from tests.schemas.golden_files import EXAMPLES
from tests.schemas.strategies import requests as valid_requests

from .target import Take

_RENEWED_AFTER = 200
"""Requests; a search of the caches' doubles takes longer with each."""
_HEADER = b"\0header\0"
_SHARED = "shared/"
"""Begins the ids of requests whose answer may be another tenant's."""


class _Job:
    """Whatever comes, no defect answers it, and a reused answer is its own tenant's."""

    def __init__(self) -> None:
        self._pipeline = Pipeline()

    def take(self, value: bytes, lane: Lane, headers: dict[str, bytes | None]) -> bool:
        """One record, whose task is answered; whether it got one."""
        if self._pipeline.offset % _RENEWED_AFTER == 0:
            self._pipeline = Pipeline()
        job = self._pipeline
        job.offset += 1
        record = Incoming(topic="llm.requests", partition=0, offset=job.offset, value=value, headers=headers)
        sent: list[Outgoing] = []
        for item in job.intake.take(record, lane, job.now_ms):
            sent += job.desk.arrive(job.state, item, job.now_ms) if isinstance(item, Arrival) else [item]
        sent += job.desk.tick(job.state, job.now_ms)
        for one in sent:
            _check(one)
        if any(is_task(one) for one in sent):
            job.answer(sent)
            return True
        return any(is_reply(one) and reply_of(one).error is None for one in sent)


def _check(sent: Outgoing) -> None:
    if sent.topic.endswith(".dead"):
        assert "the job cannot handle it" not in CODEC.decode(sent.value, DeadLetter).reason
    if is_reply(sent):
        reply = reply_of(sent)
        assert reply.error is None or reply.error.code != ErrorCode.INTERNAL
        assert reply.error or reply.request_id.startswith(_SHARED) or reply.text.startswith(f"for {reply.tenant}: ")


def intake(_: ExitStack) -> Take:
    """A record of the topic of requests; behind ``_HEADER``, what each of its headers holds."""
    job = _Job()

    def take(data: bytes) -> bool:
        value, _, header = data.partition(_HEADER)
        return job.take(value, Lane.INTERACTIVE, dict.fromkeys(HEADERS, header) if header else {})

    return take


def intake_seeds() -> list[bytes]:
    return [CODEC.encode(make_request()), CODEC.encode(make_request()) + _HEADER + b"00-12"]


def requests(_: ExitStack) -> Take:
    """Any request that validation takes, made of the bytes by hypothesis."""
    job = _Job()

    @given(valid_requests)
    def answered(request: Request) -> None:
        if request.cache.scope is CacheScope.SHARED:
            request = msgspec.structs.replace(request, request_id=_SHARED + request.request_id)
        job.take(CODEC.encode(request), request.lane, {})

    feed = answered.hypothesis.fuzz_one_input  # pyright: ignore[reportFunctionMemberAccess]: given adds it
    return lambda data: feed(data) is not None


def requests_seeds() -> list[bytes]:
    return [random.Random(0).randbytes(2_000)]


def results(_: ExitStack) -> Take:
    """What is in a result, for the task that is out: only a whole reply to its request, by a model, is ever kept."""
    job = Pipeline()
    task = only_task(job.ask(make_request()))
    waiting = job.state

    def take(data: bytes) -> bool:
        job.state = waiting.copy()
        job.answers.answers.clear()
        result = Result(task_id=task.task_id, flight_key=task.flight_key, bucket=task.bucket, reply=data)
        job.desk.settle(job.state, result, job.now_ms)
        if not job.answers.answers:
            return False
        reply = CODEC.decode(data, Reply)
        assert (reply.tenant, reply.request_id) == ("acme", "request-1")
        assert reply.complete
        assert reply.model_id is not None
        return True

    return take


def results_seeds() -> list[bytes]:
    replies = [make_reply(), make_reply(tenant="rival"), *(one for one in EXAMPLES if isinstance(one, Reply))]
    return [CODEC.encode(reply) for reply in replies]


def commands(_: ExitStack) -> Take:
    """A command as JSON: what the job makes of it, whichever it is."""
    config = load_config()
    answers = MemoryAnswers(config)
    read = Commands(CODEC, answers)
    invalidations = Invalidations(config, CODEC, answers, metrics())
    arms = Arms(config)

    def take(data: bytes) -> bool:
        try:
            control = msgspec.json.decode(data, type=Control)
            value = CODEC.encode(control)
        except (ValueError, ForebayError):
            return False
        command = read.take(value, "llm.control/0/1")
        if isinstance(command, Invalidate):
            assert invalidations.take(MemoryState(), command, NOW_MS), "somebody waits for what became of it"
        try:
            rollout = of_control(control)
        except ForebayError:
            return False
        if rollout is not None:
            arms.follow(follow({}, rollout).values())
            arms.config(arms.arm_of(make_request()))
        return command is not None or rollout is not None

    return take


def commands_seeds() -> list[bytes]:
    said = [
        (CANCEL, {"tenant": "acme", "request_id": "r"}),
        (INVALIDATE, {"source": "prices", "tenant": "acme", "before_ms": "1760000000000", "id": "k"}),
        (INVALIDATE, {"key": "0" * 32}),
        (FORGET, {"tenant": "acme", "user": "ada", "id": "k"}),
    ]
    plain = [
        json.dumps({"key": "k", "command": name, "issued_ms": 1, "issued_by": "ada", "arguments": arguments}).encode()
        for name, arguments in said
    ]
    return [*plain, msgspec.json.encode(to_control(make_rollout()))]
