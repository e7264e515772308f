"""The one interface behind which a model generates, and the choice of a backend by configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError, ErrorCode, ForebayError
from forebay_schemas.records import Lane, Message, Usage
from forebay_schemas.tiers import Backend as BackendKind


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
    static_messages: int = 0
    """How many of the first messages are the same from request to request."""
    lane: Lane = Lane.INTERACTIVE
    priority: int = 0
    """Higher comes first among those of one lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A model's answer."""

    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage
    model_id: str
    """The model that answered: of a pool, not always the same."""
    synthetic: bool = False
    confidence: float | None = None
    """Geometric mean of the probabilities of the answer's tokens, in (0, 1]; None where the model tells none."""
    first_token_ms: float | None = None
    """From the beginning of the generation to its first token."""


OnText = Callable[[str], None]
"""Called with each further piece of an answer, on the event loop."""


class GenerationError(ForebayError):
    """This request has no answer; the next one is unharmed.

    Attributes:
        code: ``context_length_exceeded``, ``engine_refused`` or ``engine_failed``.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unavailable(GenerationError):
    """The model cannot be reached or is left alone for a while; another one may answer."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.ENGINE_FAILED, message)


class EngineDead(ForebayError):
    """The engine will answer nothing any more: the process must end and be started again."""


class TextModel(Protocol):
    """What answers the requests of a tier: one model, or a pool of them."""

    @property
    def model_id(self) -> str:
        """The model's name in the configuration."""
        ...

    @property
    def synthetic(self) -> bool:
        """True where no model writes the text."""
        ...

    @property
    def concurrency(self) -> int:
        """Generations that it wants to have at the same time; some may wait inside. Known after ``start``."""
        ...

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Answer one request; cancelling stops the generation. With ``on_text`` the answer is told piece by piece.

        Raises:
            GenerationError: this request has no answer; ``Unavailable`` where another model may have one.
            EngineDead: no request will have one.
        """
        ...

    def hold(self, task_id: str) -> None:
        """Let a running generation rest, so that it costs the others nothing; what it has written is kept.

        A backend that cannot do so goes on. An unknown task is no error: it may just have ended.
        """
        ...

    def release(self, task_id: str) -> None:
        """Let a held generation go on."""
        ...


class ModelBackend(TextModel, Protocol):
    """A model that is loaded once in this process, whatever number of tiers it serves."""

    async def start(self) -> None:
        """Load the model; the event loop stays free meanwhile.

        Raises:
            ConfigError: the model cannot be loaded as it is configured.
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
    if model.backend is BackendKind.OPENAI:
        from .openai import OpenAIBackend

        return OpenAIBackend(name, model.endpoint)
    if model.backend is BackendKind.SYNTHETIC:
        from .synthetic import SyntheticBackend

        return SyntheticBackend(name, model.synthetic)
    raise ConfigError(f"models.{name}.backend: is absent, so no worker can serve it; set vllm, openai or synthetic")
