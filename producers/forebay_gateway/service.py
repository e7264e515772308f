"""What all calls of one process share."""

from dataclasses import dataclass

from fastapi import Request
from forebay_client import AsyncClient
from forebay_schemas.config import Config
from forebay_schemas.metrics import GatewayMetrics

from .batches.files import Files
from .batches.jobs import Jobs
from .batches.running import Runner
from .brokers import Brokers
from .calls import Calls
from .gate import Caller
from .limits import Limits
from .live import Live
from .models import Ladder
from .repeats import Repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The parts of a gateway."""

    config: Config
    client: AsyncClient
    brokers: Brokers
    calls: Calls
    ladder: Ladder
    limits: Limits
    repeats: Repeats
    files: Files
    jobs: Jobs
    runner: Runner
    live: Live
    metrics: GatewayMetrics


def service_of(request: Request) -> Service:
    """The gateway that a call came to."""
    return request.app.state.service


def caller_of(request: Request) -> Caller:
    """Who calls, as the gate found."""
    return request.state.caller
