"""What goes wrong for a caller, in OpenAI's words: a status, and an object with message, type, param and code."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from forebay_client import BrokerUnavailable, ClientClosed, ReplyTimeout, RequestFailed
from forebay_client.openai_format import http_status
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from .chat_request import UNSUPPORTED, Forebay

_CLIENTS_FAULT = "invalid_request_error"
_OURS = "server_error"
_FORM_FIELD = "expires_after["
"""So OpenAI's clients write members of an object in a form."""


class ApiError(HTTPException):
    """A call that is answered with an error.

    Args:
        status: of HTTP.
        message: what is wrong, and how to mend it.
        code: a word for programs.
        param: the path of the field that is wrong; None where it is none.
        kind: OpenAI's ``type``; absent: by the status.
        retry_after_s: when to send it again.
        retry: whether OpenAI's clients should do so by themselves; absent: as they do by the status.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str | None = None,
        retry_after_s: float | None = None,
        retry: bool | None = None,
    ) -> None:
        headers = {}
        if retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(retry_after_s)))
        if retry is not None:
            headers["x-should-retry"] = str(retry).lower()
        super().__init__(status, message, headers)
        kind = kind or (_OURS if status >= 500 else _CLIENTS_FAULT)
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
        """OpenAI's error object."""

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """The answer to the call."""
        return JSONResponse(self.body, self.status_code, {**(headers or {}), **(self.headers or {})})


def overloaded(most: int) -> ApiError:
    """A call that is one too many."""
    return ApiError(
        503,
        f"this gateway answers {most} calls already (gateway.max_inflight); send the call again",
        code="overloaded",
        retry_after_s=1,
    )


def too_large_file(most: int) -> ApiError:
    """A file above the limit."""
    message = f"file: has more than {most:,} bytes (gateway.max_file_bytes); split it into several"
    return ApiError(413, message, code="too_large", param="file")


def api_error(error: ForebayError) -> ApiError:
    """What a failure of the client, or of the pipeline, means for the caller."""
    if isinstance(error, RequestFailed):
        # OpenAI's clients ask again by themselves from 500 on; most of these would be paid for, or fail, again.
        return ApiError(http_status(error.code), error.message, code=error.code, retry=error.retryable)
    if isinstance(error, RecordError):
        return ApiError(http_status(error.code), f"{_prefix(error)}{error}", code=error.code, param=_param(error))
    if isinstance(error, ReplyTimeout):
        return ApiError(504, str(error), code=ErrorCode.DEADLINE_EXCEEDED, retry=False)
    if isinstance(error, BrokerUnavailable | ClientClosed):
        return ApiError(503, str(error), code="unavailable", retry_after_s=1, retry=True)
    return ApiError(500, str(error), code=ErrorCode.INTERNAL)


def invalid_body(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of a body's problems, as pydantic tells them."""
    problem = problems[0]
    if problem["type"] == "json_invalid":
        return ApiError(
            400, f"the body is no JSON ({problem['ctx']['error']}); send a JSON object", code="invalid_json"
        )
    place = _place(problem["loc"])
    top = place.partition(".")[0].partition("[")[0]
    if not place:
        return ApiError(400, "the body is no JSON object; send one, as application/json", code="invalid_type")
    if problem["type"] == "missing":
        return ApiError(400, f"{place}: is missing; give it a value", code="missing_required_parameter", param=place)
    if problem["type"] == "extra_forbidden":
        return ApiError(400, f"{place}: is unknown; leave it out", code="unknown_parameter", param=place)
    if top in UNSUPPORTED:
        message = f"{place}: is not supported with this value; {UNSUPPORTED[top]}"
        return ApiError(400, message, code="unsupported_parameter", param=place)
    said = problem["msg"].removeprefix("Value error, ")
    return ApiError(400, f"{place}: {said[:1].lower()}{said[1:]}", code="invalid_value", param=place)


def _prefix(error: RecordError) -> str:
    root = (error.field or "").partition(".")[0].partition("[")[0]
    return "forebay." if root in Forebay.model_fields else ""


def _param(error: RecordError) -> str | None:
    return error.field and f"{_prefix(error)}{error.field}"


def _place(loc: Sequence[int | str]) -> str:
    """A path such as ``messages[0].content``, of a location whose first part says that it is the body's.

    Names with other signs in them are pydantic's own, for the branch of a union that it tried.
    """
    path = ""
    for part in loc[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() or part.startswith(_FORM_FIELD):
            path += f".{part}" if path else part
    return path
