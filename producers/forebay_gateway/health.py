"""Whether the process lives, and whether it can answer."""

from typing import Annotated

from fastapi import APIRouter, Depends

from .errors import ApiError
from .responses import errors
from .service import Service, service_of

router = APIRouter()


@router.get("/healthz", responses=errors({503: "Replies cannot be read any more: start it anew."}))
async def live(service: Annotated[Service, Depends(service_of)]) -> dict[str, str]:
    """Answers while the process does its work, or could when the brokers are back."""
    if service.client.broken:
        message = "replies cannot be read any more, the log says why; start the gateway anew"
        raise ApiError(503, message, code="unavailable", retry=False)
    return {"status": "ok"}


@router.get("/readyz", responses=errors({503: "The brokers do not answer, or lack the request topic."}))
async def ready(service: Annotated[Service, Depends(service_of)]) -> dict[str, str]:
    """Answers with 200 while requests can be published. Redis is not asked for: most calls do without it."""
    if not await service.brokers.know_the_topic():
        raise ApiError(503, "the brokers do not answer, or lack the request topic", code="unavailable", retry_after_s=1)
    return {"status": "ok"}
