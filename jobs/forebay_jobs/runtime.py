"""What all operators of one TaskManager process share: stores, embedder, metrics; built once, on first use.

In thread mode every slot of a TaskManager runs in one interpreter, so these are process-wide. They outlive a
restart of the job in the same process, which is why nothing here belongs to one job's run.
"""

import logging
import threading
from functools import cache, cached_property

from forebay_schemas.codec import Codec
from forebay_schemas.config import Config
from forebay_schemas.logs import log_handler
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.registry import codec_for
from forebay_schemas.rollouts import Rollout
from forebay_schemas.sections import LogsConfig, MetricsConfig
from prometheus_client import REGISTRY, start_http_server

from .arms import Arms
from .caches.answers import AnswerStore
from .caches.hits import HitStore
from .caches.prefixes import PrefixRates
from .caches.questions import SweepableIndex, open_index
from .caches.redis_store import RedisStore
from .caches.semantic import SemanticCache
from .caches.sweeping import Sweeper
from .dispatch import Dispatcher
from .embedding import Embedder, SpareTime
from .judging.aside import JudgeAside
from .judging.judge import Judge
from .pruning import Pruner
from .relevance import load_cross_encoders
from .replies import ReplyWriter
from .reuse.namespaces import Namespaces
from .reuse.teacher import Teacher
from .rollout_log import RolloutFollower
from .shadows import Shadows
from .throttle import Pressure

_ROLLOUTS_KNOWN_S = 10.0
"""How long requests wait at the start for the rollouts; until they are known, the configuration alone holds."""

logger = logging.getLogger(__name__)

_current: "Runtime | None" = None
_metrics: JobMetrics | None = None
_lock = threading.Lock()


class Runtime:
    """The shared parts, for one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._lock = threading.RLock()
        self._index: SweepableIndex | None = None
        self._teacher: Teacher | None = None
        self._sweeper: Sweeper | None = None
        self._aside: JudgeAside | None = None
        self._follower: RolloutFollower | None = None
        self.metrics = _metrics_of_this_process(config.metrics)
        self.pressure = Pressure()
        _serve_metrics(config.metrics.job_port)

    @cached_property
    def codec(self) -> Codec:
        return codec_for(self.config)

    @cached_property
    def arms(self) -> Arms:
        arms = Arms(self.config)

        def follow(known: dict[str, Rollout]) -> None:
            arms.follow(known.values())
            self.metrics.rollout_share.clear()
            for rollout in known.values():
                if rollout.stage.live:
                    self.metrics.rollout_share.labels(rollout.name).set(rollout.stage.share)

        self._follower = RolloutFollower(self.config.kafka, self.codec, follow)
        self._follower.start(_ROLLOUTS_KNOWN_S)
        return arms

    @cached_property
    def redis(self) -> RedisStore:
        return RedisStore(self.config, self.metrics)

    @cached_property
    def answers(self) -> AnswerStore:
        return AnswerStore(self.config, self.redis)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        replies = ReplyWriter(self.config, self.codec, self.metrics)
        pruner = Pruner(self.config, self.codec, self.embedder, load_cross_encoders(self.config), self.metrics)
        rates = PrefixRates(self.config, self.redis)
        dispatcher = Dispatcher(self.config, self.codec, replies, rates, pruner, self.arms)
        self.metrics.router_learned.set(dispatcher.learned)
        return dispatcher

    @cached_property
    def embedder(self) -> Embedder:
        return Embedder(self.config.embedding, self.metrics)

    @cached_property
    def hits(self) -> HitStore:
        return HitStore(self.config, self.redis)

    @cached_property
    def namespaces(self) -> Namespaces:
        return Namespaces(self.config, self.redis, self.embedder.version, self.arms)

    @cached_property
    def judge(self) -> Judge:
        return Judge(self.config, SpareTime(self.embedder))

    @cached_property
    def aside(self) -> JudgeAside:
        self._aside = JudgeAside(self.judge)
        self._aside.start()
        return self._aside

    def shadows(self) -> Shadows:
        """Those of one more slot, which counts for itself."""
        return Shadows(self.config, self.codec, self.aside, self.metrics, self.arms)

    @cached_property
    def teacher(self) -> Teacher:
        self._teacher = Teacher(self.judge, self.answers, self.hits, self.namespaces, self.metrics)
        self._teacher.start()
        return self._teacher

    @cached_property
    def semantic(self) -> SemanticCache:
        self._index = open_index(self.config.semantic, self.embedder.dimensions, self.embedder.version)
        self._sweeper = Sweeper(self.config, self._index, self.answers, self.redis, self.metrics)
        self._sweeper.start()
        return SemanticCache(
            self.config,
            self.embedder,
            self._index,
            self.answers,
            self.hits,
            self.namespaces,
            self.teacher,
            self.metrics,
        )

    def locked(self) -> threading.RLock:
        """Held while parts are first built: operators open at the same time, and models must load once."""
        return self._lock

    def close(self) -> None:
        """Share what was learned, and release the index, which a successor may want to open."""
        if self._follower is not None:
            self._follower.close()
        if self._teacher is not None:
            self._teacher.close()
            self.namespaces.sync()
        if self._aside is not None:
            self._aside.close()
        if self._sweeper is not None:
            self._sweeper.close()
        if self._index is not None:
            self._index.close()


def runtime_for(config: Config) -> Runtime:
    """This process's runtime for a configuration. A job that was submitted with another one takes its place."""
    global _current
    with _lock:
        if _current is not None and _current.config != config:  # compared, as printing it masks its secrets
            logger.warning("the configuration changed; what was opened for the old one is closed")
            _current.close()
            _current = None
        if _current is None:
            _log_to_stderr(config.logs)
            _current = Runtime(config)
        return _current


def _log_to_stderr(settings: LogsConfig) -> None:
    """Write our own log lines to the TaskManager's output; PyFlink has taken the root logger for itself."""
    for name in ("forebay_jobs", "forebay_schemas"):
        ours = logging.getLogger(name)
        ours.handlers[:] = [log_handler(settings)]
        ours.setLevel(logging.INFO)
        ours.propagate = False


def _metrics_of_this_process(settings: MetricsConfig) -> JobMetrics:
    """Those of the first configuration: the registry takes each name once in a process."""
    global _metrics
    if _metrics is None:
        _metrics = JobMetrics(REGISTRY, settings.label_values)
    return _metrics


@cache
def _serve_metrics(port: int) -> None:
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        logger.error("metrics.job_port: cannot serve metrics on %d (%s); another TaskManager has it?", port, error)
