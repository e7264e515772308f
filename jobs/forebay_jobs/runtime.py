"""What all operators of one TaskManager process share: stores, embedder, metrics; built once, on first use.

In thread mode every slot of a TaskManager runs in one interpreter, so these are process-wide. They outlive a
restart of the job in the same process, which is why nothing here belongs to one job's run.
"""

import logging
import threading
from functools import cached_property

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.registry import codec_for
from prometheus_client import REGISTRY, start_http_server

from .caches.answers import AnswerStore
from .caches.questions import open_index
from .caches.semantic import SemanticCache
from .embedding import Embedder
from .throttle import Pressure

logger = logging.getLogger(__name__)

_runtimes: dict[str, "Runtime"] = {}
_lock = threading.Lock()


class Runtime:
    """The shared parts, for one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.RLock()
        self.metrics = JobMetrics(REGISTRY)
        self.pressure = Pressure()
        _serve_metrics(config.metrics.job_port)

    @cached_property
    def codec(self) -> Codec:
        return codec_for(self._config)

    @cached_property
    def answers(self) -> AnswerStore:
        return AnswerStore(self._config, self.metrics)

    @cached_property
    def semantic(self) -> SemanticCache:
        embedder = Embedder(self._config.embedding, self.metrics)
        index = open_index(self._config.semantic, embedder.dimensions, embedder.version)
        return SemanticCache(self._config, embedder, index, self.answers, self.metrics)

    def locked(self) -> threading.RLock:
        """Held while parts are first built: operators open at the same time, and models must load once."""
        return self._lock


def runtime_for(config: Config) -> Runtime:
    """This process's runtime for a configuration."""
    with _lock:
        key = repr(config)
        if key not in _runtimes:
            logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
            if _runtimes:
                logger.warning("the configuration changed; a TaskManager that is restarted forgets the old one")
            _runtimes[key] = Runtime(config)
        return _runtimes[key]


def _serve_metrics(port: int) -> None:
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        logger.error("metrics.job_port: cannot serve metrics on %d (%s); another TaskManager has it?", port, error)
