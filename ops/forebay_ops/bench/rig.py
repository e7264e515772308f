"""What a benchmark runs on: a broker and worker processes of its own in a temporary folder, all ended with it."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError

from ..local import servers
from ..local.effective import effective, with_free_ports, write_settings
from ..local.home import Home
from ..local.parts import Part, common_environment, local_parts
from ..local.provision import provision
from ..topics import create_topics
from .harness import Say

_PATIENCE_S = 600
"""A model takes 90 s to load on two idle cores, and several times that on busy ones."""
_POLL_S = 0.05
_GRACE_S = 5
_TAIL_LINES = 15


class BenchFailed(ForebayError):
    """A benchmark cannot go on; the message says which process failed, with the end of its log."""


class Process:
    """A process in a session of its own, so that Ctrl-C reaches it only through us and its children end with it."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path, piped: bool) -> None:
        self.name = name
        self.log = log
        self.began = time.time()
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait for a condition that this process makes true.

        Raises:
            BenchFailed: it ends instead, or takes too long.
        """
        end = time.monotonic() + _PATIENCE_S
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise self.failed(f"is not ready after {_PATIENCE_S} s")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """See that it runs.

        Raises:
            BenchFailed: it has ended.
        """
        if self.popen.poll() is not None:
            raise self.failed(f"has ended with code {self.popen.returncode}")

    def failed(self, what: str) -> BenchFailed:
        """The error that says what happened to this process, with the end of its log."""
        tail = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return BenchFailed(f"{self.name} {what}; the end of its log:\n  " + "\n  ".join(tail))

    def end(self) -> None:
        """End it and what it started; killed where it does not end by itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGTERM)
            os.killpg(self.popen.pid, signal.SIGCONT)  # one that was stopped cannot end
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Rig:
    """The processes of one benchmark. Use it as ``with rig(say) as it``."""

    def __init__(self, folder: Path, say: Say, engine_cores: int | None) -> None:
        self.home = Home(folder, installed=Home.at().root)  # jars and models are shared with the stack of this user
        cores = sorted(os.sched_getaffinity(0))
        self._engine_cores = cores[-(engine_cores or len(cores)) :]
        self._folder = folder
        self._say = say
        self._bootstrap = ""
        self._processes: list[Process] = []

    def start_broker(self) -> None:
        """Start the broker on ports that nobody uses, and wait until it answers."""
        config = with_free_ports(self._read({"local": {"start": ["kafka"]}, **synthetic_settings()}))
        provision(config, self.home, self._say)
        servers.write_kafka(config, self.home)
        self._bootstrap = config.kafka.bootstrap
        self._say("starting Kafka")
        (kafka,) = local_parts(config, self.home)
        self.broker = self._start_part(kafka, {})

    def installation(self, **settings: Any) -> Config:
        """A configuration with topics of its own on the broker.

        Args:
            settings: sections of the configuration; ``models`` and ``tiers`` must be among them.
        """
        kafka = {"bootstrap": self._bootstrap, "topic_prefix": f"b{uuid.uuid4().hex[:8]}", "partitions": 4}
        kafka |= settings.pop("kafka", {})
        config = effective(self._read({"kafka": kafka, "local": {"start": ["worker"]}, **settings}), self.home)
        provision(config, self.home, self._say)
        create_topics(config)
        return config

    def worker(self, config: Config, number: int = 0, of: int = 1) -> Process:
        """Start a worker and wait until it serves.

        Args:
            number: which of those it is that share the machine; their engines wait for one another on shared cores.
            of: how many these are.
        """
        config = config.model_copy(update={"metrics": with_free_ports(config).metrics})
        (part,) = local_parts(config, self.home)
        self._say("starting a worker")
        cores = self._engine_cores[number % len(self._engine_cores) :: of]
        return self._start_part(part, {"FOREBAY_CONFIG": str(self.write(config)), **_computing_on(cores)})

    def worker_environment(self, config: Config) -> dict[str, str]:
        """What a worker is given besides what every part is: how vLLM uses this machine."""
        (part,) = local_parts(with_free_ports(config), self.home)
        return part.environment | _computing_on(self._engine_cores)

    def process(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, piped: bool = False
    ) -> Process:
        """Start any other process; it ends with the rig.

        Args:
            environment: variables besides those of every part; of this process's none that configure a stack.
            piped: whether its standard input and output are for us; else the output goes to its log.
        """
        log = self._folder / f"{name}-{len(self._processes)}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("FOREBAY_")}
        whole = inherited | common_environment(self.home) | (environment or {})
        process = Process(name, command, whole, log, piped)
        self._processes.append(process)
        return process

    def write(self, config: Config) -> Path:
        """Write a configuration for a process to read, and return the file."""
        file = self._folder / f"{uuid.uuid4().hex}.toml"
        write_settings(config, file)
        return file

    def close(self) -> None:
        """End every process, the broker last."""
        for process in reversed(self._processes):
            process.end()

    def _start_part(self, part: Part, environment: dict[str, str]) -> Process:
        process = self.process(part.name, list(part.command), part.environment | environment)
        process.wait_until(part.ready)
        return process

    def _read(self, settings: dict[str, Any]) -> Config:
        file = self._folder / "settings.toml"
        file.write_text(tomli_w.dumps(settings))
        return load_config(file)


@contextlib.contextmanager
def rig(say: Say, engine_cores: int | None = None) -> Iterator[Rig]:
    """A rig with its broker up. Settings in this process's environment are left out of everything that it runs.

    Args:
        engine_cores: how many cores engines compute on; None: all, which they share with everything else.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        it = Rig(Path(folder), say, engine_cores)
        for name in [name for name in os.environ if name.startswith("FOREBAY_")]:
            del os.environ[name]  # they are for the user's installation, and this one must not touch it
        try:
            it.start_broker()
            yield it
        finally:
            say("stopping what was started")
            it.close()


def _computing_on(cores: Sequence[int]) -> dict[str, str]:
    """The variables that bind an engine's threads."""
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores))}


_FREE = {"input_per_1k": 0.0, "output_per_1k": 0.0}
# An answer that is doubted would be asked for again, and there would be two generations to measure.
_NO_DOUBT = {"default": {"escalation": {"min_confidence": 0.0, "on_refusal": False, "max_escalations": 0}}}


def model_settings(weights: str, **engine: Any) -> dict[str, Any]:
    """The sections of a configuration whose one tier ``only`` is answered by vLLM."""
    return _settings({"backend": "vllm", "weights": weights, "engine": {"enforce_eager": True, **engine}})


def synthetic_settings() -> dict[str, Any]:
    """The same where no model answers."""
    return _settings({"backend": "synthetic"})


def tier(**settings: Any) -> dict[str, Any]:
    """A tier answered by the model of either."""
    return {"complexity_up_to": 1.0, "model": "model", "max_tokens": 128, **settings}


def _settings(model: dict[str, Any]) -> dict[str, Any]:
    return {"models": {"model": {"price": _FREE, **model}}, "tiers": {"only": tier()}, "categories": _NO_DOUBT}
