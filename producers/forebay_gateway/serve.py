"""Runs the gateway until it is told to stop."""

import ipaddress
import logging
import signal
import socket
import ssl

import uvicorn
from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.metrics import GatewayMetrics
from forebay_schemas.metrics_server import serve_metrics

from .app import make_app

_BACKLOG = 2048
"""Connections that wait to be taken: those of a busy moment."""

_log = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Serve until SIGTERM or Ctrl-C; running calls are finished first, for ``gateway.drain_timeout_s`` at most.

    Raises:
        ConfigError: it would let anybody call, or a setting cannot work.
    """
    settings = config.gateway
    if settings.key_file is None and not _is_local(settings.host):
        raise ConfigError(
            f"gateway.host: {settings.host} can be reached from elsewhere, and gateway.key_file is not set: anybody"
            " could spend your money; make keys with `forebay gateway keys create --tenant ...`, or listen on 127.0.0.1"
        )
    app = make_app(config, GatewayMetrics())
    tls = _tls(config)
    listening = _listen(settings.host, settings.port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # metrics count calls, and a path may hold what is nobody's business
            timeout_graceful_shutdown=round(settings.drain_timeout_s),
            server_header=False,
            ssl_context_factory=(lambda *_: tls) if tls else None,
        )
    )
    serve_metrics("gateway_port", config.metrics.gateway_port, "each gateway of this machine")
    # uvicorn stops on a signal and then raises it once more, which here would end the process before it has cleaned up.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _log.info(
        "serving %s://%s:%d/v1, %s",
        "https" if tls else "http",
        settings.host,
        settings.port,
        f"with the keys of {settings.key_file}" if settings.key_file else "to this machine alone, without keys",
    )
    server.run([listening])


def _tls(config: Config) -> ssl.SSLContext | None:
    tls = config.gateway.tls
    try:
        return tls.context() if tls else None
    except OSError as error:
        raise ConfigError(
            f"gateway.tls: a file cannot be used ({error}); give PEM files, the server's with its certificate and key"
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"gateway.host, gateway.port: {host}:{port} cannot be listened on ({error})") from None


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
