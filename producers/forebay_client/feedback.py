"""From what a service has at hand (a request's id, a thumb) to feedback."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypedDict, TypeVar

from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import Feedback, FeedbackSource, Verdict
from forebay_schemas.validation import validate_feedback

Choice = TypeVar("Choice", bound=StrEnum)


class FeedbackFields(TypedDict, total=False):
    """What may be said beside request and verdict; None is the same as leaving it out."""

    tenant: str | None
    """Whose request it is; absent: the client's."""
    user: str | None
    """Whose voice it is. Of what one user says of a request the latest counts; those without a name share a voice."""
    reason: str | None
    """A short code of the service's own, such as ``outdated``."""
    refined_by: str | None
    """Id of the later request by which the user asked the same again in other words."""
    source: str | None
    """``user`` (the default), ``judge`` for a model's verdict, ``rule`` for a program's that saw what the user did."""
    given_ms: int | None
    """When it was given, in milliseconds since the Unix epoch; absent: now."""


def build_feedback(
    request_id: str, verdict: str, fields: Mapping[str, Any], *, tenant: str | None, now_ms: int
) -> Feedback:
    """Make feedback.

    Args:
        verdict: ``up`` or ``down``.
        fields: of ``FeedbackFields``.
        tenant: whose request it is where ``fields`` does not say so.
        now_ms: milliseconds since the Unix epoch.

    Raises:
        InvalidRequest: a name is unknown, or a field has a value that cannot be used.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    if unknown := values.keys() - FeedbackFields.__annotations__.keys():
        known = ", ".join(FeedbackFields.__annotations__)
        raise InvalidRequest(min(unknown), "is no field of feedback", f"use one of {known}")
    values = {"tenant": tenant, "given_ms": now_ms, "source": FeedbackSource.USER} | values
    if values["tenant"] is None:
        raise InvalidRequest("tenant", "is absent", "name it for the client or for the feedback")
    values["verdict"] = _one_of("verdict", verdict, Verdict)
    values["source"] = _one_of("source", values["source"], FeedbackSource)
    feedback = Feedback(request_id=request_id, **values)
    validate_feedback(feedback)
    return feedback


def _one_of(field: str, value: object, kind: type[Choice]) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise InvalidRequest(field, f"is {value!a:.80}", f"use one of {', '.join(kind)}") from None
