"""The calls of OpenAI's files and batches."""

import hashlib
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Header, Query
from fastapi.responses import StreamingResponse
from forebay_schemas.config import Config

from ..errors import ApiError, too_large_file
from ..gate import Caller
from ..repeats import HEADER
from ..responses import ALWAYS, errors
from ..service import Service, caller_of, service_of
from .jobs import BatchJob, Status, batch_id
from .shapes import (
    BatchList,
    BatchObject,
    FileDeleted,
    FileList,
    FileObject,
    FilePage,
    NewBatch,
    Page,
    Upload,
    listed,
)

_WRONG = errors({400: "A field that has a value that cannot be used; `param` names it."})
_NO_FILE = errors({404: "There is no such file."})
_NO_BATCH = errors({404: "There is no such batch."})

files = APIRouter(prefix="/v1/files", responses={**ALWAYS, **_WRONG})
batches = APIRouter(prefix="/v1/batches", responses={**ALWAYS, **_WRONG})

InService = Annotated[Service, Depends(service_of)]
By = Annotated[Caller, Depends(caller_of)]


@files.post("", response_model=FileObject)
async def create_file(
    upload: Annotated[Upload, Form(media_type="multipart/form-data")], service: InService, by: By
) -> Any:
    """Upload a file of requests."""
    most = service.config.gateway.max_file_bytes
    if (upload.file.size or 0) > most:
        raise too_large_file(most)
    if (upload.anchor is None) != (upload.kept_s is None):
        message = "expires_after: has one of anchor and seconds; give both, or leave it out"
        raise ApiError(400, message, code="invalid_value", param="expires_after")
    name = upload.file.filename or "requests.jsonl"
    return FileObject.of(
        await service.files.upload(by.tenant, name, upload.file.read, f"file-{uuid.uuid4().hex}", upload.kept_s)
    )


@files.get("", response_model=FileList)
async def list_files(page: Annotated[FilePage, Query()], service: InService, by: By) -> Any:
    """List files."""
    found = [file for file in await service.files.of(by.tenant) if page.purpose in (None, file.purpose)]
    return listed([FileObject.of(file) for file in (found if page.order == "asc" else found[::-1])], page)


@files.get("/{file_id}", response_model=FileObject, responses=_NO_FILE)
async def retrieve_file(file_id: str, service: InService, by: By) -> Any:
    """Tell of a file."""
    return FileObject.of(await service.files.get(by.tenant, file_id))


@files.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={**_NO_FILE, 200: {"description": "The file.", "content": {"application/octet-stream": {}}}},
)
async def retrieve_file_content(file_id: str, service: InService, by: By) -> StreamingResponse:
    """Give a file back."""
    file = await service.files.get(by.tenant, file_id)
    length = {"content-length": str(file.bytes)}  # so that a caller knows one that broke off
    return StreamingResponse(await service.files.pieces(file), headers=length, media_type="application/octet-stream")


@files.delete(
    "/{file_id}", response_model=FileDeleted, responses={**_NO_FILE, **errors({409: "A batch is being made of it."})}
)
async def delete_file(file_id: str, service: InService, by: By) -> Any:
    """Forget a file."""
    file = await service.files.get(by.tenant, file_id)
    if reading := await service.jobs.reading(file):
        raise ApiError(409, f"{file_id} is read by {reading[0]}; cancel that, or wait for its end", code="file_in_use")
    await service.files.delete(file)
    return FileDeleted(id=file_id)


@batches.post("", response_model=BatchObject, responses=_NO_FILE)
async def create_batch(
    body: NewBatch,
    service: InService,
    by: By,
    idempotency_key: Annotated[str | None, Header(alias=HEADER, min_length=1, max_length=255)] = None,
) -> Any:
    """Answer all requests of a file on the batch lane."""
    file = await service.files.get(by.tenant, body.input_file_id)
    if file.purpose != "batch":
        message = f"input_file_id: {file.id} is of the purpose {file.purpose}; upload one of the purpose batch"
        raise ApiError(400, message, code="invalid_value", param="input_file_id")
    run = uuid.uuid4().hex if idempotency_key is None else hashlib.sha256(idempotency_key.encode()).hexdigest()
    now_s = int(time.time())
    expires_s = now_s + _window_s(service.config)
    await service.files.keep_until(file, expires_s)
    job = BatchJob(
        id=batch_id(file, run),
        tenant=by.tenant,
        run=run,
        key_id=by.key and by.key.id,
        input_file_id=file.id,
        endpoint=body.endpoint,
        completion_window=body.completion_window,
        metadata=body.metadata,
        output_kept_s=body.output_expires_after and body.output_expires_after.seconds,
        created_at=now_s,
        expires_at=expires_s,
    )
    job = await service.jobs.begin(job)
    service.runner.wake()
    return BatchObject.of(job)


@batches.get("", response_model=BatchList)
async def list_batches(page: Annotated[Page, Query()], service: InService, by: By) -> Any:
    """List batches, the newest first."""
    return listed([BatchObject.of(job) for job in (await service.jobs.of(by.tenant))[::-1]], page)


@batches.get("/{batch}", response_model=BatchObject, responses=_NO_BATCH)
async def retrieve_batch(batch: str, service: InService, by: By) -> Any:
    """Tell how a batch stands."""
    return BatchObject.of(await service.jobs.get(by.tenant, batch))


@batches.post("/{batch}/cancel", response_model=BatchObject, responses={**_NO_BATCH, **errors({409: "It has ended."})})
async def cancel_batch(batch: str, service: InService, by: By) -> Any:
    """Take back what is not answered of a batch."""
    job = await service.jobs.get(by.tenant, batch)
    if job.status in (Status.COMPLETED, Status.FAILED, Status.EXPIRED):
        raise ApiError(409, f"{batch} is {job.status} already", code="batch_ended")
    return BatchObject.of(await service.jobs.cancel(job))


def _window_s(config: Config) -> int:
    """Workers answer no row after that."""
    return round(min(86_400, config.worker.completion_window_s))
