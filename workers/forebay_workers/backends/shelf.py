"""The models of one worker: those loaded at its start, and those that rollouts ask for later."""

import asyncio
import logging

from forebay_schemas.config import Config
from forebay_schemas.errors import ConfigError
from forebay_schemas.tiers import Backend

from . import ModelBackend, TextModel, Unavailable, create

_log = logging.getLogger(__name__)


class Shelf:
    """Models by name, each there once whatever number of tiers asks for it.

    Args:
        loaded: those that are started; whoever made this stops them all, also what is added here.
    """

    def __init__(self, config: Config, loaded: dict[str, ModelBackend]) -> None:
        self._config = config
        self._loaded = loaded
        self._opening = asyncio.Lock()

    def loaded(self, name: str) -> TextModel | None:
        """A model that is here already; None where it is not."""
        return self._loaded.get(name)

    def opens(self, name: str) -> bool:
        """Whether a model is not here, and is opened for the first who asks for it."""
        return name not in self._loaded and self._config.models[name].backend not in (None, Backend.VLLM)

    async def model(self, name: str) -> TextModel:
        """A model, opened where it was not.

        Raises:
            Unavailable: it runs in vLLM, which is loaded at the start only: a second engine would have to share the
                memory that the first has taken. Or it cannot be opened.
        """
        async with self._opening:
            if name not in self._loaded:
                self._loaded[name] = await self._open(name)
        return self._loaded[name]

    async def _open(self, name: str) -> ModelBackend:
        if self._config.models[name].backend is Backend.VLLM:
            message = f"{name} is not loaded here: name it in the tier's standby, and restart the worker"
            raise Unavailable(message, unreached=True)
        try:
            backend = create(name, self._config)
            await backend.start()
        except ConfigError as error:
            raise Unavailable(f"{name} cannot be opened: {error}", unreached=True) from None
        _log.info("opened %s for a rollout", name)
        return backend
