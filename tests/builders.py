"""Records for tests: valid as they come, and every field can be given."""

from typing import Any

from forebay_schemas.codec import Codec
from forebay_schemas.records import CacheStatus, Feedback, Message, Reply, Request, Result, Route, Task, Verdict
from forebay_schemas.rollouts import Rollout, Stage, Step

NOW_MS = 1_760_000_000_000
"""The time at which these records were made: milliseconds since the Unix epoch."""


def user(content: str, **fields: Any) -> Message:
    """A user's turn."""
    return Message(role="user", content=content, **fields)


def system(content: str, **fields: Any) -> Message:
    """A system prompt."""
    return Message(role="system", content=content, **fields)


def make_request(question: str = "How do I return a parcel?", /, **fields: Any) -> Request:
    """A valid request that asks ``question``; ``messages`` takes its place where given."""
    return Request(
        **{
            "request_id": "request-1",
            "tenant": "acme",
            "created_ms": NOW_MS,
            "messages": [user(question)],
            **fields,
        }
    )


def make_route(**fields: Any) -> Route:
    """A route to the small tier."""
    return Route(**{"tier": "small", "complexity": 0.1, "confidence": 0.9, "reason": "complexity", **fields})


def make_reply(**fields: Any) -> Reply:
    """A complete generated answer to ``make_request()``."""
    return Reply(
        **{
            "request_id": "request-1",
            "tenant": "acme",
            "completed_ms": NOW_MS + 250,
            "cache_status": CacheStatus.MISS,
            "text": "Print the label from your account.",
            "finish_reason": "stop",
            "route": make_route(),
            "model_id": "llama-3.1-8b",
            "hops": 1,
            **fields,
        }
    )


def make_rollout(**fields: Any) -> Rollout:
    """A rollout that began a moment ago, and answers 10 % of the tenants."""
    return Rollout(
        **{
            "name": "terse",
            "version": 1,
            "overrides": {"tiers.small.system_prompt": '"Be brief."'},
            "stage": Stage.TEN,
            "started_ms": NOW_MS,
            "since_ms": NOW_MS,
            "history": [Step(at_ms=NOW_MS, who="ada", what="start", stage=Stage.TEN, why="")],
            **fields,
        }
    )


def make_feedback(**fields: Any) -> Feedback:
    """A thumb down for ``make_reply()``, some seconds after it."""
    return Feedback(
        **{
            "request_id": "request-1",
            "tenant": "acme",
            "given_ms": NOW_MS + 9_000,
            "verdict": Verdict.DOWN,
            **fields,
        }
    )


def make_task(request: Request | None = None, **fields: Any) -> Task:
    """A task for the small tier that carries ``request``."""
    return Task(
        **{
            "task_id": "task-1",
            "flight_key": "flight-1",
            "bucket": "0",
            "request": Codec().encode(request or make_request()),
            "route": make_route(),
            "cache_status": CacheStatus.MISS,
            "accepted_ms": NOW_MS + 5,
            "reply_topic": "llm.replies",
            "reply_key": "request-1",
            **fields,
        }
    )


def make_result(reply: Reply | None = None, **fields: Any) -> Result:
    """The result of ``make_task()`` that carries ``reply``."""
    return Result(
        **{
            "task_id": "task-1",
            "flight_key": "flight-1",
            "bucket": "0",
            "reply": Codec().encode(reply or make_reply()),
            **fields,
        }
    )
