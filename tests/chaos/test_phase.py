"""Of the requests of a span of time: which were answered in time, after how long, and what the others were told."""

import math

from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Lane, ReplyError

from ..builders import make_reply
from .checker import Asked
from .phase import Phase

_BEGAN_MS = 1_000_000


def asked(
    after_ms: int, took_ms: int | None, *, has_ms: int | None = 5_000, lane: Lane = Lane.INTERACTIVE, told: str = ""
) -> Asked:
    """A request made so long after the phase began; ``took_ms`` until its reply, an error where one is told."""
    created_ms = _BEGAN_MS + after_ms
    error = ReplyError(code=told, message=f"late by {took_ms} ms", retryable=False) if told else None
    replies = [] if took_ms is None else [make_reply(completed_ms=created_ms + took_ms, error=error)]
    deadline_ms = None if has_ms is None else created_ms + has_ms
    return Asked(lane=lane, created_ms=created_ms, deadline_ms=deadline_ms, committed=replies)


def phase(*requests: Asked) -> Phase:
    return Phase.of("load", _BEGAN_MS, _BEGAN_MS + 10_000, requests)


def test_only_requests_made_in_the_phase_count() -> None:
    inside = [asked(0, 100), asked(9_999, 100)]
    seen = phase(asked(-1, 100), *inside, asked(10_000, 100))
    assert list(seen.requests) == inside
    assert seen.rate_per_s == 0.2


def test_in_time_is_who_was_answered_before_the_deadline_or_else_the_end_of_the_phase() -> None:
    late, open_, refused = asked(0, 5_001), asked(0, None), asked(0, 10, told=ErrorCode.DEADLINE_EXCEEDED)
    seen = phase(asked(0, 5_000), late, open_, refused)
    assert seen.share_in_time(Lane.INTERACTIVE) == 0.25
    seen = phase(*(asked(2_000, took_ms, has_ms=None, lane=Lane.BATCH) for took_ms in (8_000, 8_001)))
    assert seen.share_in_time(Lane.BATCH) == 0.5
    assert seen.share_in_time(Lane.INTERACTIVE) == 1.0


def test_waiting_times_are_those_of_answers_in_time() -> None:
    seen = phase(*(asked(0, 10 * number) for number in range(1, 101)), asked(0, 6_000))
    assert seen.wait_ms(Lane.INTERACTIVE, 0.5) == 500
    assert seen.wait_ms(Lane.INTERACTIVE, 0.99) == 990
    assert math.isnan(seen.wait_ms(Lane.BATCH, 0.5))


def test_refusals_are_counted_by_code_and_by_when_they_were_told() -> None:
    early, late = (asked(0, took_ms, told=ErrorCode.DEADLINE_EXCEEDED) for took_ms in (4_000, 5_200))
    seen = phase(early, late, asked(0, 10, told=ErrorCode.INTERNAL, has_ms=None))
    assert seen.errors == {ErrorCode.DEADLINE_EXCEEDED: 2, ErrorCode.INTERNAL: 1}
    assert seen.told_after_deadline_ms(0.5) == -1_000
    assert [*seen.refusals] == ["late by … ms"]
    assert seen.told_after_deadline_ms(1.0) == 200
