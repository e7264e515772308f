"""The models of a tier: the one that answers, and those that take over while it cannot."""

import asyncio
import logging
from collections.abc import Sequence

from forebay_schemas.errors import ErrorCode

from . import EngineDead, Generation, GenerationError, GenerationRequest, OnText, TextModel, Unavailable
from .shelf import Shelf

_log = logging.getLogger(__name__)


class Pool:
    """Asks the primary, then the standbys in their order. Models are shared between pools, and started elsewhere.

    Where a rollout names another model, that one is asked first, and all of these are its standbys.

    What is held keeps resting from one model to the next, and from one generation of an attempt to the next.

    Args:
        shelf: where the models of rollouts are; absent: there are none.
    """

    def __init__(self, primary: TextModel, standbys: Sequence[TextModel] = (), shelf: Shelf | None = None) -> None:
        self.primary = primary
        self._models = (primary, *standbys)
        self._shelf = shelf
        self._of_rollouts: set[TextModel] = set()
        self._dead: set[TextModel] = set()
        self._held: dict[str, asyncio.Event] = {}

    @property
    def model_id(self) -> str:
        """The primary's; each generation names the model that answered."""
        return self.primary.model_id

    @property
    def synthetic(self) -> bool:
        return self.primary.synthetic

    @property
    def concurrency(self) -> int:
        """The primary's: a standby that answers fewer at the same time lets the others wait."""
        return self.primary.concurrency

    def takes_for(self, model: str | None) -> int:
        """The generations that are taken at present of those who ask for a model: what the first of the models that
        may answer them takes that takes any. One that is still to be opened is tried by one of them."""
        first = self._first_for(model)
        return first.takes or int(self._opens(model))

    def can_rest(self, model: str | None, *, structured: bool) -> bool:
        """Whether generations of those who ask for a model can be held."""
        return self._first_for(model).can_rest(structured=structured)

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Answer with the first model that can.

        Raises:
            Unavailable: none can, or the one that answered broke off after some of its text was told.
            GenerationError: a model failed, or its engine died, and another attempt may be answered by a standby.
            EngineDead: no model is left.
        """
        told = False

        def tell(piece: str) -> None:
            nonlocal told
            told = True
            assert on_text is not None
            on_text(piece)

        problems: list[GenerationError] = []
        for model in await self._asked(request.model, problems):
            if model in self._dead:
                continue
            while (held := self._held.get(request.generation_id)) is not None:
                await held.wait()
            try:
                return await model.generate(request, None if on_text is None else tell)
            except EngineDead as error:
                self._dead.add(model)
                if self._dead.issuperset(self._models):
                    raise
                # This request may have killed it: another attempt is counted before it meets the next engine.
                raise GenerationError(ErrorCode.ENGINE_FAILED, f"{error}; its standby takes over") from None
            except GenerationError as error:
                if told or not error.code.retryable:  # another model's text would contradict what was told
                    raise
                problems.append(error)
                why = error if isinstance(error, Unavailable) else error.code  # an engine's own text may quote a prompt
                _log.warning("task %s: %s failed (%s)", request.generation_id, model.model_id, why)
        message = "; ".join(map(str, problems))
        away = [problem for problem in problems if isinstance(problem, Unavailable)]
        if len(away) == len(problems):
            raise Unavailable(message, unreached=all(one.unreached for one in away))
        raise GenerationError(ErrorCode.ENGINE_FAILED, message)

    def hold(self, generation_id: str) -> None:
        self._held.setdefault(generation_id, asyncio.Event())
        for model in (*self._models, *self._of_rollouts):
            model.hold(generation_id)

    def release(self, generation_id: str) -> None:
        if (held := self._held.pop(generation_id, None)) is not None:
            held.set()
        for model in (*self._models, *self._of_rollouts):
            model.release(generation_id)

    async def _asked(self, name: str | None, problems: list[GenerationError]) -> Sequence[TextModel]:
        """The models to ask, in their order; where the one of a rollout is not to be had, why."""
        if name is None or name == self.model_id or self._shelf is None:
            return self._models
        try:
            first = await self._shelf.model(name)
        except Unavailable as error:
            problems.append(error)
            _log.warning("a rollout's model: %s", error)
            return self._models
        if first not in self._models:
            self._of_rollouts.add(first)
        return self._before_own(first)

    def _before_own(self, first: TextModel) -> Sequence[TextModel]:
        return (first, *(model for model in self._models if model is not first))

    def _first_for(self, name: str | None) -> TextModel:
        """The first of the models for those who ask for one by this name that takes any; where none does, the first."""
        asked = self._shelf.loaded(name) if self._shelf is not None and name is not None else None
        models = self._models if asked is None else self._before_own(asked)
        return next((model for model in models if model.takes), models[0])

    def _opens(self, name: str | None) -> bool:
        return self._shelf is not None and name is not None and self._shelf.opens(name)
