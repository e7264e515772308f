"""The sections of what generates: models, what each costs and how it is served, and the tiers that they answer."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from .section import Address, Section


class Price(Section):
    """What a model costs, in US dollars per 1,000 tokens."""

    input_per_1k: float = Field(ge=0, description="Prompt tokens.")
    cached_input_per_1k: float | None = Field(
        default=None, ge=0, description="Prompt tokens from a prefix cache; absent: input."
    )
    output_per_1k: float = Field(ge=0, description="Generated tokens.")
    cache_write_per_1k: float | None = Field(
        default=None, ge=0, description="Prompt tokens written to a prefix cache, where that is charged; absent: input."
    )
    batch_factor: float = Field(default=0.5, ge=0, le=1, description="What the batch lane pays of it.")


class GpuHourPrice(Section):
    """What a self-hosted model costs, by the hour of its GPUs and the tokens that they make of it."""

    gpu_hour_usd: float = Field(ge=0, description="US dollars for one GPU for one hour.")
    gpus: int = Field(default=1, ge=1, description="How many GPUs serve the model.")
    input_tokens_per_s: float = Field(
        gt=0, description="Prompt tokens that they read a second, all together, while they do nothing else."
    )
    output_tokens_per_s: float = Field(
        gt=0, description="Tokens that they generate a second, all together, while they do nothing else."
    )
    utilisation: float = Field(gt=0, le=1, description="Share of the paid time in which they work.")
    cached_input_share: float = Field(
        default=0.0, ge=0, le=1, description="What a prompt token from a prefix cache costs, as a share of one read."
    )
    batch_factor: float = Field(default=0.5, ge=0, le=1, description="What the batch lane pays of it.")

    def per_1k(self) -> Price:
        """The price in US dollars per 1,000 tokens: a token costs what the GPUs cost while they work on it.

        With ``usd_per_s`` = ``gpu_hour_usd`` * ``gpus`` / 3600, it is 1000 * ``usd_per_s`` / (``tokens_per_s`` *
        ``utilisation``), for input and output each with its own throughput. Cached input is ``cached_input_share`` of
        the input's price.
        """
        usd_per_busy_s = self.gpu_hour_usd * self.gpus / 3600 / self.utilisation
        input_per_1k = 1000 * usd_per_busy_s / self.input_tokens_per_s
        return Price(
            input_per_1k=input_per_1k,
            cached_input_per_1k=self.cached_input_share * input_per_1k,
            output_per_1k=1000 * usd_per_busy_s / self.output_tokens_per_s,
            batch_factor=self.batch_factor,
        )


def _stated_one_way(price: Any) -> Any:
    """Tells the two ways apart by their names, so that what is wrong is said of the way that was meant."""
    if isinstance(price, Price | GpuHourPrice):
        return price
    names = list(price) if isinstance(price, dict) else []
    per_1k = [name for name in names if name in Price.model_fields.keys() - GpuHourPrice.model_fields.keys()]
    by_hour = [name for name in names if name in GpuHourPrice.model_fields.keys() - Price.model_fields.keys()]
    if per_1k and by_hour:
        raise ValueError(
            f"{per_1k[0]} and {by_hour[0]} state one price in two ways;"
            " keep the prices per 1,000 tokens, or the GPU-hour with its throughput"
        )
    return (GpuHourPrice if by_hour else Price).model_validate(price)


StatedPrice = Annotated[Price | GpuHourPrice, BeforeValidator(_stated_one_way)]


class Backend(StrEnum):
    """What runs a model."""

    VLLM = "vllm"
    """In the worker's process."""
    OPENAI = "openai"
    """An HTTP endpoint that speaks OpenAI's chat completions: a vLLM server, a provider."""
    SYNTHETIC = "synthetic"
    """No model: for load and fault tests."""


class SyntheticConfig(Section):
    """The load test's backend: no model, configured delay, length and doubt."""

    latency_ms: float = Field(
        default=50.0, ge=0, description="Time of a generation of `tokens`; others take as much longer as they are."
    )
    tokens: int = Field(default=32, ge=1, description="Tokens of one answer, on average.")
    tokens_spread: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="How much answers differ in tokens: the standard deviation of their logarithm (log-normal); 0: not"
        " at all. In public traces it is about 0.9.",
    )
    doubtful_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of the answers with a confidence of 0; the others have 1."
    )
    concurrency: int = Field(default=64, ge=1, description="Generations at the same time; more wait.")
    fail_on: str | None = Field(default=None, description="A prompt that holds this text fails, as an engine's fault.")
    crash_on: str | None = Field(
        default=None, description="A prompt that holds this text kills the worker, as one that kills its engine."
    )


class ProviderBatchesConfig(Section):
    """How the batch lane uses a provider's own batches, where ``endpoint.batch_api`` says that it has them."""

    gather_s: float = Field(
        default=60.0, ge=0, description="How long tasks are gathered for a batch that does not get full."
    )
    max_tasks: int = Field(default=10_000, ge=1, le=50_000, description="Most tasks of one batch.")
    max_bytes: int = Field(
        default=50_000_000, ge=1_000, le=200_000_000, description="Most bytes of the file of one batch."
    )
    outstanding: int = Field(
        default=16_384,
        ge=1,
        description="Most batch tasks that a worker holds in memory for it, gathered or at the provider.",
    )
    least_s: float = Field(
        default=14_400.0,
        ge=0,
        description="Time that a batch is given: a task that presses (worker.raise_before_s) sooner is called directly,"
        " at full price.",
    )
    poll_s: float = Field(
        default=60.0, gt=0, description="Longest pause before a batch is asked for again; it begins with a second."
    )


class EndpointConfig(Section):
    """An OpenAI-compatible HTTP endpoint."""

    url: Address = Field(default=None, description="Base address, up to and with /v1.")
    api_key: SecretStr | None = Field(default=None, description="Bearer token; absent: none is sent.")
    model: str | None = Field(default=None, description="The model's name there; absent: its name here.")
    concurrency: int = Field(default=64, ge=1, description="Generations at the same time; more wait here.")
    timeout_s: float = Field(default=120.0, gt=0, description="A generation that takes longer counts as failed.")
    max_retries: int = Field(
        default=2, ge=0, le=10, description="Further generations asked for where a call failed on the way."
    )
    failures_to_open: int = Field(
        default=5, ge=1, description="Failed generations in a row after which the endpoint is left alone for a while."
    )
    open_s: float = Field(default=15.0, gt=0, description="How long it is left alone before one call tries it again.")
    cache_breakpoints: bool = Field(
        default=False, description="Mark the end of the static prefix for providers that want explicit cache control."
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="What the provider calls the limit of an answer's tokens."
    )
    batch_api: bool = Field(
        default=False,
        description="The provider takes files of requests for batch_factor of its price (/files and /batches, as"
        " OpenAI's): the batch lane goes that way, and what is called directly costs the full price.",
    )
    batches: ProviderBatchesConfig = ProviderBatchesConfig()


class ModelConfig(Section):
    """A model: its price, and how it is served."""

    price: StatedPrice
    backend: Backend | None = Field(default=None, description="Absent: known by its price only, no worker serves it.")
    weights: str | None = Field(default=None, description="Hub name or folder, for vllm.")
    engine: dict[str, Any] = Field(default_factory=dict, description="Arguments of vLLM's AsyncEngineArgs.")
    share_prefixes: bool = Field(
        default=False,
        description="Whether vLLM reads what is in its prefix cache for any tenant, which then tells by its time that"
        " another's prompt began alike. Otherwise tenants share only what they ask with the cache scope `shared`.",
    )
    endpoint: EndpointConfig = EndpointConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="before")
    @classmethod
    def _priced(cls, values: Any) -> Any:
        if isinstance(values, dict) and "price" not in values:
            raise ValueError(
                "price is missing, and without it nobody could say what an answer costs; give input_per_1k and"
                " output_per_1k, or gpu_hour_usd with its throughput, zeros where it is free"
            )
        return values

    @model_validator(mode="after")
    def _weights_for_vllm(self) -> "ModelConfig":
        if self.backend is Backend.VLLM and not self.weights:
            raise ValueError("weights must name a model for the backend vllm")
        return self

    @model_validator(mode="after")
    def _batch_api_of_openai(self) -> "ModelConfig":
        if self.endpoint.batch_api and self.backend is not Backend.OPENAI:
            raise ValueError("endpoint.batch_api is for the backend openai; leave it out, or set the backend")
        return self

    @model_validator(mode="after")
    def _url_for_openai(self) -> "ModelConfig":
        if self.backend is Backend.OPENAI and not self.endpoint.url:
            raise ValueError("endpoint.url must give an address for the backend openai")
        return self


class TierConfig(Section):
    """One rung of the ladder of models."""

    complexity_up_to: float = Field(gt=0, le=1, description="The tier takes complexities below this; the last has 1.")
    model: str = Field(description="The model, a name under models, that answers.")
    standby: list[str] = Field(
        default_factory=list, description="Models that answer, in this order, while those before them cannot."
    )
    priced_as: str | None = Field(
        default=None, description="The model whose list price is charged, where the answering one stands for it."
    )
    max_tokens: int = Field(gt=0, description="Most tokens of an answer; a request may ask for fewer.")
    system_prompt: str = Field(default="", description="Added to the system prompt of every request of the tier.")
    length_directive: str = Field(
        default="", description="Added like system_prompt, to keep answers short: Answer in at most 60 words."
    )
    stop: list[str] = Field(default_factory=list, description="Sequences that end an answer, besides the request's.")
