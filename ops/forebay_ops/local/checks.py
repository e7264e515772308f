"""What is checked before anything starts, so that a stack that cannot run says why at once."""

import psutil
from forebay_schemas.errors import ConfigError

from .effective import port_is_free
from .home import Home
from .parts import Elsewhere, Part

_MIN_DISK_MB = 2_000
"""Kafka's segments, checkpoints, logs and the unpacked model of a demo, with room to spare."""


def check_machine(home: Home, parts: list[Part], others: list[Elsewhere]) -> None:
    """Check ports, memory, disk, and that the servers which run elsewhere answer.

    Raises:
        ConfigError: naming everything that is wrong, each with its mend.
    """
    problems = [
        *_taken_ports(parts),
        *_too_little_disk(home),
        *_too_little_memory(parts),
        *_away(others),
    ]
    if problems:
        raise ConfigError("the stack cannot start:\n  " + "\n  ".join(problems))


def _taken_ports(parts: list[Part]) -> list[str]:
    return [
        f"{part.name}: port {port} ({setting}) is taken{_by_whom(port)}; stop what uses it, or configure another port"
        for part in parts
        for setting, port in part.ports.items()
        if not port_is_free(port)
    ]


def _by_whom(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass  # without the right to look at the processes of others
    return ""


def _too_little_disk(home: Home) -> list[str]:
    folder = next(folder for folder in (home.root, *home.root.parents) if folder.exists())
    free_mb = psutil.disk_usage(str(folder)).free // 1_000_000
    if free_mb >= _MIN_DISK_MB:
        return []
    return [
        f"{home.root}: {free_mb} MB of disk space are left where {_MIN_DISK_MB} MB are needed;"
        " make room, or set FOREBAY_HOME to a folder on another disk"
    ]


def _too_little_memory(parts: list[Part]) -> list[str]:
    needed_mb = sum(part.memory_mb for part in parts)
    free_mb = psutil.virtual_memory().available // 1_000_000
    if free_mb >= needed_mb:
        return []
    sizes = ", ".join(f"{part.name} {part.memory_mb}" for part in parts)
    return [
        f"memory: {free_mb} MB are free where {needed_mb} MB are needed ({sizes});"
        " end other programs, or run a part elsewhere and take it out of local.start"
    ]


def _away(others: list[Elsewhere]) -> list[str]:
    return [
        f"{other.name}: nothing answers at {other.address} ({other.setting}); start it, or correct the address"
        for other in others
        if not other.ready()
    ]
