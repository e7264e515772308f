"""Serves a process's metrics to Prometheus."""

from prometheus_client import start_http_server

from .errors import ConfigError


def serve_metrics(setting: str, port: int, who: str) -> None:
    """Serve what is in the process's registry from a thread of its own; port 0: not at all.

    Args:
        setting: under ``metrics``, that gives the port.
        who: is to have another port, in the words of the mend.

    Raises:
        ConfigError: the port cannot be used.
    """
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        raise ConfigError(f"metrics.{setting}: {port} cannot be used ({error}); give {who} its own") from None
