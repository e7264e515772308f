"""One worker process, from configuration to exit code."""

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from typing import NoReturn

import click
from confluent_kafka import KafkaException
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.logs import write_logs
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.metrics_server import serve_metrics
from forebay_schemas.records import Lane
from forebay_schemas.registry import codec_for
from forebay_schemas.topic_probe import TopicProbe
from forebay_schemas.tracing import tracing_for

from .answer import Answerer
from .arms import ArmConfigs
from .backends import ModelBackend, create
from .backends.pool import Pool
from .backends.shelf import Shelf
from .chunks import ChunkWriter
from .control import ControlReader
from .generation import is_structured
from .handover import Handover
from .intake import Intake
from .lanes import Delivery, Kind, Line, Room
from .loop import Connection, Model, Worker
from .transactions import Transactions
from .windows import Window

_log = logging.getLogger("forebay_workers")


@click.command()
@click.option("--tiers", help="Comma-separated names; all tiers whose model has a backend when left out.")
def main(tiers: str | None) -> None:
    """Serve tiers until SIGTERM or SIGINT; a second signal ends the process at once.

    Exit codes: 0 after a signal, 1 when something died that a restart may mend, 2 when the configuration cannot work.
    """
    code = 0
    try:
        config = load_config()
        write_logs(config.logs)
        asyncio.run(serve(config, _chosen(config, tiers)))
    except ConfigError as error:
        _log.critical("%s", error)
        code = 2
    except (ForebayError, KafkaException) as error:
        _log.critical("the worker ends and has to be started again: %s", error)
        code = 1
    except Exception:
        _log.critical("the worker ends on a defect", exc_info=True)
        code = 1
    # Whatever is worth keeping is committed; taking torch and vLLM down in order would take seconds.
    _leave_at_once(code)


async def serve(config: Config, tiers: list[str]) -> None:
    """Load the models of the tiers, once each, and serve them until a signal comes."""
    stop = _stop_on_signals()
    tracing = tracing_for(config, "worker")  # before minutes of loading: it may be refused
    backends: dict[str, ModelBackend] = {}
    try:
        for name in dict.fromkeys(name for tier in tiers for name in _model_names(config, tier)):
            backends[name] = create(name, config)
            await _start(backends[name], stop)
        await _serve(config, tiers, backends, stop)
    finally:
        for backend in backends.values():
            await backend.stop()
        if tracing is not None:
            await asyncio.to_thread(tracing.flush)
    _log.info("stopped")


async def _serve(config: Config, tiers: list[str], backends: dict[str, ModelBackend], stop: asyncio.Event) -> None:
    codec = codec_for(config)
    metrics = WorkerMetrics(label_values=config.metrics.label_values)
    for name, backend in backends.items():
        metrics.model_up.labels(name).set_function(lambda backend=backend: float(backend.takes == backend.concurrency))
    shelf = Shelf(config, backends)
    pools = {tier: _pool(config, tier, backends, shelf) for tier in tiers}
    answerer = Answerer(config, codec)
    handover = Handover(config, shelf, answerer.arms, metrics)
    shared = {name: _model(config, name, pools, answerer.arms) for name in {pool.model_id for pool in pools.values()}}
    models = {tier: shared[pool.model_id] for tier, pool in pools.items()}
    probe = TopicProbe(config.kafka)
    worker = Worker(
        config.worker,
        pools,
        models,
        lambda: Connection(
            [
                Intake(
                    config.kafka,
                    codec,
                    tier,
                    lane,
                    models[tier].rooms[lane],
                    metrics.lag.labels(tier, lane),
                    probe,
                )
                for tier in tiers
                for lane in Lane
            ],
            Transactions(config.kafka),
        ),
        answerer,
        handover,
        ChunkWriter(config.kafka, codec),
        lambda on_cancel: ControlReader(config.kafka, codec, on_cancel),
        metrics,
    )
    try:
        await worker.run(stop, lambda: _announce(config, tiers))
    finally:
        await handover.close()


def _pool(config: Config, tier: str, backends: dict[str, ModelBackend], shelf: Shelf) -> Pool:
    primary, *standbys = (backends[name] for name in _model_names(config, tier))
    return Pool(primary, standbys, shelf)


def _model_names(config: Config, tier: str) -> list[str]:
    return [config.tiers[tier].model, *config.tiers[tier].standby]


def _model(config: Config, name: str, pools: Mapping[str, Pool], arms: ArmConfigs) -> Model:
    """Where the tasks of a model wait. More than it can soon use is left in Kafka, where other workers find it."""
    own = {tier: pool for tier, pool in pools.items() if pool.model_id == name}
    concurrency = next(iter(own.values())).concurrency
    places = config.worker.max_inflight or 2 * concurrency
    line = Line(
        concurrency,
        config.worker.batch_beside_interactive,
        config.worker.batch_resume_after_ms,
        Window.of(config.worker),
        lambda delivery: _kind(delivery, pools[delivery.tier], arms),
    )
    return Model(line, {lane: Room(places) for lane in Lane}, own)


def _kind(delivery: Delivery, pool: Pool, arms: ArmConfigs) -> Kind:
    model = arms.model(delivery.task, delivery.tier)
    return Kind(delivery.tier, model, pool.can_rest(model, structured=is_structured(delivery.request)))


def _chosen(config: Config, names: str | None) -> list[str]:
    if names is None:
        tiers = [name for name, tier in config.tiers.items() if config.models[tier.model].backend is not None]
        if not tiers:
            raise ConfigError("tiers: none has a model with a backend; set models.<name>.backend to vllm or synthetic")
        return tiers
    tiers = list(dict.fromkeys(names.split(",")))
    for name in tiers:
        if name not in config.tiers:
            raise ConfigError(f"--tiers: {name!r} is no tier; use some of {', '.join(config.tiers)}")
    return tiers


async def _start(model: ModelBackend, stop: asyncio.Event) -> None:
    """Load a model, unless a signal comes first: then there is nothing to lose, and loading cannot be cancelled."""
    _log.info("loading %s", model.model_id)
    began = time.monotonic()
    loading = asyncio.create_task(model.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        _leave_at_once(0)
    stopping.cancel()
    await loading
    _log.info("loaded %s in %.1f s", model.model_id, time.monotonic() - began)


def _announce(config: Config, tiers: list[str]) -> None:
    """The metrics port is also the sign of readiness: it answers from here on."""
    serve_metrics("worker_port", config.metrics.worker_port, "each worker")
    _log.info("ready: serving %s", ", ".join(tiers))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            _log.warning("second signal: leaving at once")
            _leave_at_once(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def _leave_at_once(code: int) -> NoReturn:
    """End without waiting for threads; a process of an engine that is left is ended too."""
    for child in multiprocessing.active_children():
        child.kill()
    logging.shutdown()
    os._exit(code)
