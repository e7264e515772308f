"""OpenAI's files and batches, as callers send and get them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import UploadFile
from forebay_client.openai_format import CHAT_COMPLETIONS
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ..errors import ApiError
from ..store import StoredFile
from .jobs import BatchJob, Status

KeptS = Annotated[int, Field(ge=3_600, le=2_592_000, description="Seconds; gateway.files_kept_s at most.")]
_MOST_LISTED = 10_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Upload(_Strict):
    """A file that is sent as form data."""

    file: UploadFile = Field(description="JSONL: a request a line.")
    purpose: Literal["batch"]
    anchor: Literal["created_at"] | None = Field(default=None, alias="expires_after[anchor]")
    kept_s: KeptS | None = Field(default=None, alias="expires_after[seconds]")


class ExpiresAfter(_Strict):
    """How long a file is kept."""

    anchor: Literal["created_at"]
    seconds: KeptS


class NewBatch(_Strict):
    """The body by which a batch is created."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_file_id: str = Field(min_length=1)
    endpoint: Literal["/v1/chat/completions"] = Field(description=f"Of every line; only {CHAT_COMPLETIONS}.")
    completion_window: Literal["24h"]
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(max_length=64)],
                Annotated[str, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None


class Page(_Strict):
    """Which part of a list."""

    after: str | None = Field(default=None, description="The id behind which it begins.")
    limit: int = Field(default=20, ge=1, le=100)


class FilePage(Page):
    """Which files."""

    limit: int = Field(default=_MOST_LISTED, ge=1, le=_MOST_LISTED)
    order: Literal["asc", "desc"] = Field(default="desc", description="By the time when they were made.")
    purpose: Literal["batch", "batch_output"] | None = None


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: StoredFile) -> "FileObject":
        """As OpenAI shows it."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_s,
            expires_at=file.expires_s,
            filename=file.filename,
            purpose=file.purpose,
        )


class FileDeleted(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class RequestCounts(BaseModel):
    """Rows of a batch."""

    total: int
    completed: int
    failed: int


class BatchError(BaseModel):
    """Why a batch failed."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """All that was found."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class BatchObject(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, job: BatchJob) -> "BatchObject":
        """As OpenAI shows it."""
        told: dict[str, Any] = msgspec.to_builtins(job)
        errors = BatchErrors(data=told["errors"]) if job.errors else None
        counts = RequestCounts(total=job.total, completed=job.answered, failed=job.failed)
        return cls.model_validate(told | {"status": job.status, "errors": errors, "request_counts": counts})


class FileList(BaseModel):
    """Some files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class BatchList(BaseModel):
    """Some batches, the newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


T = TypeVar("T", FileObject, BatchObject)


def listed(shown: Sequence[T], page: Page) -> dict[str, Any]:
    """The part of a list that is asked for.

    Raises:
        ApiError: it begins behind something that is not in the list.
    """
    begin = 0
    if page.after is not None:
        places = {one.id: place for place, one in enumerate(shown, start=1)}
        if page.after not in places:
            raise ApiError(400, f"after: {page.after!a:.80} is not in this list", code="invalid_value", param="after")
        begin = places[page.after]
    data = shown[begin : begin + page.limit]
    return {
        "data": data,
        "first_id": data[0].id if data else None,
        "last_id": data[-1].id if data else None,
        "has_more": len(shown) > begin + len(data),
    }
