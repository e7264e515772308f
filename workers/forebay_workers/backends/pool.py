"""The models of a tier: the one that answers, and those that take over while it cannot."""

import logging
from collections.abc import Sequence

from . import Generation, GenerationRequest, OnText, TextModel, Unavailable

_log = logging.getLogger(__name__)


class Pool:
    """Asks the primary, then the standbys in their order. Models are shared between pools, and started elsewhere."""

    def __init__(self, primary: TextModel, standbys: Sequence[TextModel] = ()) -> None:
        self.primary = primary
        self._models = (primary, *standbys)

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

    async def generate(self, request: GenerationRequest, on_text: OnText | None = None) -> Generation:
        """Answer with the first model that can.

        Raises:
            Unavailable: none can, or the one that answered broke off after some of its text was told.
        """
        told = False

        def tell(piece: str) -> None:
            nonlocal told
            told = True
            assert on_text is not None
            on_text(piece)

        problems: list[str] = []
        for model in self._models:
            try:
                return await model.generate(request, None if on_text is None else tell)
            except Unavailable as error:
                if told:  # another model's text would contradict it
                    raise
                problems.append(str(error))
                _log.warning("task %s: %s", request.task_id, error)
        raise Unavailable("; ".join(problems))

    def hold(self, task_id: str) -> None:
        for model in self._models:
            model.hold(task_id)

    def release(self, task_id: str) -> None:
        for model in self._models:
            model.release(task_id)
