"""The one configuration of all parts: typed, validated at start, from a TOML file plus the environment.

``FOREBAY_CONFIG`` names the file; ``FOREBAY_<SECTION>__<FIELD>`` overrides a field (``FOREBAY_KAFKA__BOOTSTRAP``).
``forebay config`` prints what holds, with secrets masked.
"""

import os
import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from .categories import PRESETS, CategoryConfig
from .errors import ConfigError
from .gateway import GatewayConfig
from .records import Lane
from .sections import (
    LARGEST,
    SMALLEST,
    AuditsConfig,
    BatchConfig,
    CostsConfig,
    DeskConfig,
    EmbeddingConfig,
    FlinkConfig,
    KafkaConfig,
    LedgerConfig,
    LocalConfig,
    LogsConfig,
    MetricsConfig,
    RedisConfig,
    RegistryConfig,
    RequestTopic,
    RouterConfig,
    SemanticConfig,
    TierName,
    TopicName,
    TracingConfig,
    WorkerConfig,
)
from .tiers import GpuHourPrice, ModelConfig, Price, TierConfig


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
_complete: ContextVar[bool] = ContextVar("complete", default=False)
"""Whether the values that are given are all there are."""


class Config(BaseSettings):
    """Everything that can be set, by section."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_", env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaConfig = KafkaConfig()
    request_topics: dict[TopicName, RequestTopic] = Field(
        default_factory=dict, description="More request topics, by full name, each with its lane and tenant."
    )
    feedback_topics: dict[TopicName, str] = Field(
        default_factory=dict,
        description="More feedback topics, by full name, each with the one tenant that may write there.",
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
    audits: AuditsConfig = AuditsConfig()
    models: dict[str, ModelConfig] = Field(description="Models by name.")
    tiers: Annotated[dict[TierName, TierConfig], AfterValidator(_sorted_tiers)] = Field(
        description="Tiers by name; their order is that of complexity_up_to."
    )
    costs: CostsConfig = CostsConfig()
    worker: WorkerConfig = WorkerConfig()
    flink: FlinkConfig = FlinkConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()
    ledger: LedgerConfig = LedgerConfig()
    gateway: GatewayConfig = GatewayConfig()
    logs: LogsConfig = LogsConfig()
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
        if _complete.get():
            return (init_settings,)
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
            named = [("model", tier.model), *(("standby", model) for model in tier.standby)]
            if tier.priced_as is not None:
                named.append(("priced_as", tier.priced_as))
            for setting, model in named:
                if model not in self.models:
                    raise ValueError(
                        f"tiers.{name}.{setting}: the model {model!r} is unknown; describe it under models, with its"
                        " price"
                    )
        for name, category in self.categories.items():
            if category.tier is not None and category.tier not in self.tiers:
                raise ValueError(
                    f"categories.{name}.tier: {category.tier!r} is no tier; use one of {', '.join(self.tiers)}"
                )
        for name, task in self.router.tasks.items():
            if task.tier not in (*self.tiers, SMALLEST, LARGEST):
                raise ValueError(
                    f"router.tasks.{name}.tier: {task.tier!r} is no tier; use one of {', '.join(self.tiers)},"
                    f" {SMALLEST} or {LARGEST}"
                )
        for name, model in self.models.items():
            batches, longest_s = model.endpoint.batches, self.worker.presses_after_s
            if model.endpoint.batch_api and batches.least_s >= longest_s:
                raise ValueError(
                    f"models.{name}.endpoint.batches.least_s {batches.least_s:g} is not below the {longest_s:g} s after"
                    " which a batch task presses: none would ever go into a batch; lower it, or raise"
                    " worker.completion_window_s"
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
        own |= {
            topics.events,
            topics.audit,
            topics.batches,
            topics.replies_stream,
            topics.feedback,
            *(topics.tier(tier, lane) for tier in self.tiers for lane in Lane),
        }
        for setting, names in (
            ("request_topics", self.request_topics),
            ("feedback_topics", self.feedback_topics),
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
        return self.model_price(config.priced_as or config.model)

    def generation_price(self, tier: str, model: str) -> Price:
        """What a generation is charged: a standby is not what its tier is priced as."""
        return self.price(tier) if model == self.tiers[tier].model else self.model_price(model)

    def model_price(self, model: str) -> Price:
        """What a model costs per 1,000 tokens, in whichever way its price is stated."""
        stated = self.models[model].price
        return stated.per_1k() if isinstance(stated, GpuHourPrice) else stated

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
        raise _cannot_work(error) from None
    except (ValueError, OSError) as error:  # invalid TOML, or JSON in the environment
        raise ConfigError(f"the configuration cannot be read ({error})") from None
    finally:
        _file.reset(reading)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """A configuration with other values for some settings: what would hold if they were set.

    Args:
        changes: as a TOML file gives them. A category that has no settings of its own begins with those that hold for
            it; one with a preset, and a price that is stated another way, take the place of what was there.

    Raises:
        ConfigError: naming each setting that cannot work.
    """
    values = config.model_dump()
    categories = changes.get("categories")
    for name in categories if isinstance(categories, Mapping) else ():
        values["categories"].setdefault(name, config.category(name).model_dump())
    complete = _complete.set(True)
    try:
        return Config(**_merged(values, changes))
    except ValidationError as error:
        raise _cannot_work(error) from None
    finally:
        _complete.reset(complete)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, change in changes.items():
        before = merged.get(name)
        merged[name] = change
        if isinstance(before, Mapping) and isinstance(change, Mapping):
            restated = "preset" in change or (name == "price" and change.keys() - before.keys())
            merged[name] = dict(change) if restated else _merged(before, change)
    return merged


def _cannot_work(error: ValidationError) -> ConfigError:
    problems = "\n  ".join(_problem(item["type"], item["loc"], item["msg"]) for item in error.errors())
    return ConfigError(f"the configuration cannot work:\n  {problems}")


def _problem(kind: str, where: tuple[int | str, ...], message: str) -> str:
    if kind == "extra_forbidden":
        message = "no such setting; `forebay config` lists them all"
    if kind == "missing":
        message = "is missing, and has no default; give it a value"
    if kind == "too_short" and message.startswith("Value should"):  # a secret's characters are items to pydantic
        message = message.replace("Value should have", "should have").replace("items after validation", "characters")
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
