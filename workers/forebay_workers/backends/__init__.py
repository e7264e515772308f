"""The one interface behind which a model generates, and the choice of a backend by configuration."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ErrorCode, ForebayError
from forebay_schemas.records import Message, Usage
from forebay_schemas.sections import Backend as BackendKind


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a model is asked, with every default decided: nothing in it depends on a tier or a tenant any more."""

    task_id: str
    messages: list[Message]
    max_tokens: int
    temperature: float
    top_p: float
    stop: list[str]
    seed: int | None
    tools: list[Any] | None
    response_format: dict[str, Any] | None
    """OpenAI's object of the type ``json_object`` or ``json_schema``; None where any text will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A model's answer."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage


class GenerationError(ForebayError):
    """This request has no answer; the next one is unharmed.

    Attributes:
        code: ``context_length_exceeded``, ``engine_refused`` or ``engine_failed``.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineDead(ForebayError):
    """The engine will answer nothing any more: the process must end and be started again."""


class ModelBackend(Protocol):
    """A model that is loaded once in this process, whatever number of tiers it serves."""

    model_id: str
    """The model's name in the configuration."""
    synthetic: bool
    """True where no model writes the text."""

    @property
    def concurrency(self) -> int:
        """Generations that run at the same time; a further one would wait inside. Known after ``start``."""
        ...

    async def start(self) -> None:
        """Load the model; the event loop stays free meanwhile.

        Raises:
            ConfigError: the model cannot be loaded as it is configured.
        """
        ...

    async def generate(self, request: GenerationRequest) -> Generation:
        """Answer one request; cancelling stops the generation in the engine.

        Raises:
            GenerationError: this request has no answer.
            EngineDead: no request will have one.
        """
        ...

    async def stop(self) -> None:
        """Give up what runs and free the machine. Allowed at any time, also before ``start`` has finished."""
        ...


def create(name: str, config: Config) -> ModelBackend:
    """The backend of a model of the configuration, not yet started.

    Raises:
        ConfigError: the model has a price but no backend.
    """
    model = config.models[name]
    # Imported here because each backend needs what only its own users have installed.
    if model.backend is BackendKind.VLLM:
        from .vllm import VllmBackend

        return VllmBackend(name, model, config.worker.drain_timeout_s)
    if model.backend is BackendKind.SYNTHETIC:
        from .synthetic import SyntheticBackend

        return SyntheticBackend(name, model.synthetic)
    raise ConfigError(f"models.{name}.backend: is absent, so no worker can serve it; set vllm or synthetic")
