"""From filters to the command that invalidates, and the wait for its acknowledgement."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec
from forebay_schemas.codec import Codec
from forebay_schemas.errors import ForebayError, InvalidRequest
from forebay_schemas.invalidation import EVENT, Invalidation, InvalidationOutcome
from forebay_schemas.records import Event
from forebay_schemas.validation import validate_invalidation

from .errors import BrokerUnavailable, InvalidationPending
from .inbox import Inbox, ReplyRecord

_POLL_S = 0.2
"""How late the end of the patience, or Ctrl-C, is noticed."""


class InvalidationFields(TypedDict, total=False):
    """Which answers hold no longer: those that meet all that is given; None is the same as leaving it out.

    Of ``source``, ``prompt_version``, ``model`` and ``category`` one at most. ``key`` stands alone.
    """

    tenant: str | None
    """Absent: the client's; of a client without one those of all tenants. What tenants share belongs to none."""
    source: str | None
    """A data source that their requests named."""
    prompt_version: str | None
    model: str | None
    """A name under ``models``."""
    category: str | None
    key: str | None
    """The digest of one entry."""
    older_than_s: float | None
    """Only those completed longer ago than this, in seconds."""
    before_ms: int | None
    """The same as a time, in milliseconds since the Unix epoch."""


class Invalidated(msgspec.Struct, frozen=True, kw_only=True):
    """The job's acknowledgement of an invalidation.

    Attributes:
        command_id: under which the event on the topic of events has it.
        outcome: ``applied`` (or ``repeated``, after a failure of the job): no request that is sent from now on gets an
            answer of before. ``unknown``: nothing is known of its tenant or model, and nothing changed.
        happened_ms: when, in milliseconds since the Unix epoch.
    """

    command_id: str
    outcome: InvalidationOutcome
    happened_ms: int


def build_invalidation(fields: Mapping[str, Any], *, tenant: str | None, now_ms: int) -> Invalidation:
    """What is to be invalidated.

    Args:
        fields: of ``InvalidationFields``.
        tenant: whose answers they are where ``fields`` does not say so.
        now_ms: milliseconds since the Unix epoch.

    Raises:
        InvalidRequest: a name is unknown, nothing is named, or filters that cannot be combined are.
    """
    values: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if unknown := values.keys() - InvalidationFields.__annotations__.keys():
        mend = f"use one of {', '.join(InvalidationFields.__annotations__)}"
        raise InvalidRequest(min(unknown), "is nothing to invalidate by", mend)
    older_than_s = values.pop("older_than_s", None)
    if older_than_s is not None:
        if "before_ms" in values:
            raise InvalidRequest("older_than_s", "says the same as before_ms", "leave one of them out")
        if not isinstance(older_than_s, int | float) or not 0 <= older_than_s < 10**10:
            raise InvalidRequest("older_than_s", f"is {older_than_s!a:.40}", "give seconds, 0 or more")
        values["before_ms"] = now_ms - round(older_than_s * 1000)
    if values and "key" not in values:  # of nothing at all the whole tenant must not come
        values.setdefault("tenant", tenant)
    invalidation = Invalidation(**values)
    validate_invalidation(invalidation, now_ms)
    return invalidation


def await_acknowledgement(
    inbox: Inbox, codec: Codec, command_id: str, timeout_s: float, undelivered: Callable[[], str | None]
) -> Invalidated:
    """Read events until the one of a command comes.

    Args:
        undelivered: why the brokers did not take the command; None while they may.

    Raises:
        BrokerUnavailable: they did not.
        InvalidationPending: it did not come in time.
        InvalidRequest: the job refused the command.
    """
    until_s = time.monotonic() + timeout_s
    while (left_s := until_s - time.monotonic()) > 0:
        record = inbox.poll(min(_POLL_S, left_s))
        if problem := undelivered():
            raise BrokerUnavailable(f"the invalidation was not published: {problem}")
        event = _event_in(record, codec) if record else None
        if event is None or event.event != EVENT or event.attributes.get("id") != command_id:
            continue
        outcome = InvalidationOutcome(event.attributes["outcome"])
        if outcome is InvalidationOutcome.REFUSED:
            problem = f"was refused by the job ({event.attributes.get('problem')})"
            raise InvalidRequest("invalidation", problem, "check that job and client are of one version")
        return Invalidated(command_id=command_id, outcome=outcome, happened_ms=event.happened_ms)
    raise InvalidationPending(command_id, timeout_s)


def _event_in(record: ReplyRecord, codec: Codec) -> Event | None:
    try:
        return codec.decode(record.value, Event)
    except ForebayError:  # of another version, or somebody's mistake: ours is still to come
        return None
