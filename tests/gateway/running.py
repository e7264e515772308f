"""A gateway that is called by HTTP, on a broker in memory."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from forebay_gateway.app import make_app
from forebay_gateway.brokers import Brokers
from forebay_schemas.config import Config
from forebay_schemas.metrics import GatewayMetrics
from prometheus_client import CollectorRegistry

from tests.waiting import eventually


class Gateway:
    """One copy of it."""

    def __init__(self, address: str, registry: CollectorRegistry, server: uvicorn.Server) -> None:
        self.address = address
        self.url = f"{address}/v1"
        self._registry = registry
        self._server = server

    def counted(self, name: str, **labels: str) -> float:
        """A metric's value; 0 before anything was counted."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def stop(self) -> None:
        """As SIGTERM does."""
        self._server.should_exit = True


@contextmanager
def gateway_on(config: Config) -> Iterator[Gateway]:
    """A gateway on a free port of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        registry = CollectorRegistry()
        settings: dict[str, Any] = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
        running = uvicorn.Server(uvicorn.Config(make_app(config, GatewayMetrics(registry)), **settings))
        thread = threading.Thread(target=running.run, args=([server],), daemon=True)
        thread.start()
        eventually(lambda: running.started or not thread.is_alive(), "the gateway listens", 20)
        assert running.started
        try:
            yield Gateway(f"http://127.0.0.1:{server.getsockname()[1]}", registry, running)
        finally:
            running.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


async def always_there(_: Brokers) -> bool:
    """In place of asking the brokers."""
    return True
