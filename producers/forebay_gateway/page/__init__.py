"""The page at ``/``: what the pipeline does now, and a box to try a prompt and see why it was routed or reused.

It is one document without anything from elsewhere, and holds nothing of anybody: its script asks for figures and
answers with the key that is typed into it, as any other caller does.
"""

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from redis.exceptions import RedisError

from ..gate import Caller
from ..responses import ALWAYS
from ..service import Service, caller_of, service_of

router = APIRouter()


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> HTMLResponse:
    """The page; nothing but what it says itself may run in it, and no other site may show it."""
    document, policy = _document()
    return HTMLResponse(document, headers={"content-security-policy": policy, "referrer-policy": "no-referrer"})


@router.get("/forebay/live", responses=ALWAYS)
async def live(
    service: Annotated[Service, Depends(service_of)], caller: Annotated[Caller, Depends(caller_of)]
) -> dict[str, Any]:
    """Figures of the last minutes: those of the key's tenant, or of all where the key may see them."""
    tenant = None if caller.sees_all else caller.tenant
    return {
        "whose": "all tenants" if tenant is None else f"tenant {tenant}",
        "inflight": service.calls.inflight(tenant),
        "key": await _spent(service, caller),
        **service.live.look(tenant),
    }


async def _spent(service: Service, caller: Caller) -> list[dict[str, Any]]:
    """What the key has spent of its limits in US dollars; nothing where it has none, or Redis is away."""
    key = caller.key
    if key is None or (key.usd_per_day is None and key.usd_per_month is None):
        return []
    try:
        spent = await service.limits.spent(key, datetime.now(UTC))
    except (RedisError, OSError):
        return []
    spans = (("day", spent.day_usd, key.usd_per_day), ("month", spent.month_usd, key.usd_per_month))
    return [{"span": span, "spent_usd": usd, "limit_usd": limit} for span, usd, limit in spans if limit is not None]


@cache
def _document() -> tuple[str, str]:
    """The page, and the policy by which a browser holds it to its own style and script."""
    folder = Path(__file__).parent
    style, script = ((folder / f"page.{kind}").read_text() for kind in ("css", "js"))
    document = (folder / "page.html").read_text().replace("/* page.css */", style).replace("/* page.js */", script)
    policy = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return document, "; ".join(f"{name} {value}" for name, value in policy.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
