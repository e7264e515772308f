"""The configuration as a running stack has it: nothing relative, nothing left to be chosen, written to its home."""

import os
import random
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.tiers import ModelConfig
from pydantic import SecretStr

from .home import Home
from .provision import CHAT_MODEL, chat_model_folder

PROFILE = Path(__file__).with_name("profile.toml")
"""The configuration that ``forebay up`` uses when none is named."""

_BLOCK = 500
_BLOCKS = [range(first, first + _BLOCK) for first in range(20_000, 32_000, _BLOCK)]
"""Ports below what the system gives to outgoing connections, so that a port found free stays free."""


def effective(config: Config, home: Home) -> Config:
    """The configuration with this home's absolute paths in it. What is effective already stays as it is."""
    semantic, flink, ledger = config.semantic, config.flink, config.ledger
    path = semantic.path.resolve() if "path" in semantic.model_fields_set else home.qdrant
    key_file = config.gateway.key_file and config.gateway.key_file.resolve()
    folder = ledger.folder.resolve() if "folder" in ledger.model_fields_set else home.ledger
    embedding = config.embedding.model_copy(update={"model": _absolute(config.embedding.model)})
    checkpoints = flink.checkpoint_dir if "checkpoint_dir" in flink.model_fields_set else home.checkpoints.as_uri()
    return config.model_copy(
        update={
            "semantic": semantic.model_copy(update={"path": path}),
            "flink": flink.model_copy(update={"checkpoint_dir": checkpoints}),
            "embedding": embedding,
            "categories": {name: _effective_category(category) for name, category in config.categories.items()},
            "ledger": ledger.model_copy(update={"folder": folder}),
            "gateway": config.gateway.model_copy(update={"key_file": key_file}),
            "models": {name: _effective_model(model, home) for name, model in config.models.items()},
        }
    )


def settings_of(config: Config) -> dict[str, Any]:
    """The configuration as TOML holds it, secrets in the clear: not for printing."""
    return _plain(config.model_dump())


def write_settings(config: Config, file: Path) -> None:
    """Write the configuration so that ``load_config`` reads the same again; only this user may read it."""
    import tomli_w  # which images do not have: there is nothing to be written

    unfinished = file.with_suffix(".unfinished")
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(b"# What the stack in this folder runs with. Written by `forebay up`: changes here are lost.\n\n")
        tomli_w.dump(settings_of(config), out)
    unfinished.rename(file)


def with_free_ports(config: Config) -> Config:
    """The configuration with ports that nobody uses, so that a stack runs beside another: for tests.

    Brokers that run elsewhere stay where they are.
    """
    kafka, redis, rest, job, worker, ledger, rollouts, flink, gateway, calls = free_ports(10)
    metrics = {
        "job_port": job,
        "worker_port": worker,
        "ledger_port": ledger,
        "rollouts_port": rollouts,
        "gateway_port": calls,
        "flink_port": flink,
    }
    bootstrap = f"localhost:{kafka}" if "kafka" in config.local.start else config.kafka.bootstrap
    return config.model_copy(
        update={
            "kafka": config.kafka.model_copy(update={"bootstrap": bootstrap}),
            "redis": config.redis.model_copy(update={"url": SecretStr(f"redis://localhost:{redis}/0")}),
            "flink": config.flink.model_copy(update={"rest_address": f"localhost:{rest}"}),
            "metrics": config.metrics.model_copy(update=metrics),
            "gateway": config.gateway.model_copy(update={"port": gateway}),
        }
    )


def _effective_category(category: CategoryConfig) -> CategoryConfig:
    if category.pruning is None or category.pruning.cross_encoder is None:
        return category
    cross_encoder = _absolute(category.pruning.cross_encoder)
    return category.model_copy(update={"pruning": category.pruning.model_copy(update={"cross_encoder": cross_encoder})})


def _effective_model(model: ModelConfig, home: Home) -> ModelConfig:
    if model.weights is None:
        return model
    if model.weights != CHAT_MODEL:
        return model.model_copy(update={"weights": _absolute(model.weights)})
    engine = {"dtype": "bfloat16" if _computes_in_bfloat16() else "float32"} | model.engine
    return model.model_copy(update={"weights": str(chat_model_folder(home)), "engine": engine})


def _absolute(model: str) -> str:
    """A folder by its full path, because the parts run elsewhere; any other name as it is."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _computes_in_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}  # TOML has no null
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, bool | int | float) else str(value)


def free_ports(count: int) -> list[int]:
    """Ports whose next one up is free too, which Kafka and Flink take as well.

    A server takes its port seconds later. Nobody is told of the same one meanwhile: no process that asks here, and
    this one only when it has been told of a few hundred others.
    """
    _, ports = _own_block()
    free = (port for port in islice(ports, _BLOCK // 2) if port_is_free(port) and port_is_free(port + 1))
    return list(islice(free, count))


@cache
def _own_block() -> tuple[socket.socket, Iterator[int]]:
    """Every other port of a block that is this process's while it lives, because it listens on the block's first."""
    for block in random.sample(_BLOCKS, len(_BLOCKS)):
        guard = socket.socket()
        try:
            guard.bind(("127.0.0.1", block[0]))
            guard.listen()
        except OSError:
            guard.close()
        else:
            return guard, cycle(block[2::2])
    raise ForebayError(f"all ports from {_BLOCKS[0][0]} up are taken; end what else runs stacks of its own here")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a port of this machine."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed connection may linger
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
