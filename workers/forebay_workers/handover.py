"""Which batch tasks go into their model's provider's own batches, and the way there."""

from collections.abc import Callable

from forebay_schemas.config import Config
from forebay_schemas.metrics import WorkerMetrics
from forebay_schemas.records import Lane

from .answer import wall_clock_ms
from .arms import ArmConfigs
from .backends.openai import OpenAIBackend
from .backends.provider_batches import ProviderBatches
from .backends.shelf import Shelf
from .lanes import Delivery
from .windows import Window


class Handover:
    """The batches of all models whose providers take any, opened when the first task asks for one."""

    def __init__(
        self,
        config: Config,
        shelf: Shelf,
        arms: ArmConfigs,
        metrics: WorkerMetrics,
        now_ms: Callable[[], float] = wall_clock_ms,
    ) -> None:
        self._config = config
        self._shelf = shelf
        self._arms = arms
        self._metrics = metrics
        self._now_ms = now_ms
        self._window = Window.of(config.worker)
        self._batches: dict[str, ProviderBatches] = {}

    def outstanding(self, delivery: Delivery) -> int:
        """The most tasks that wait in the batches of a task's model at the same time."""
        return self._config.models[self._model(delivery)].endpoint.batches.outstanding

    def takes(self, delivery: Delivery) -> bool:
        """Whether a task goes into a batch: one that never failed and has time, or that may be in one already."""
        request = delivery.request
        if request is None or delivery.lane is not Lane.BATCH:
            return False
        endpoint = self._config.models[self._model(delivery)].endpoint
        if not endpoint.batch_api or delivery.attempts or delivery.came_back:
            return False
        left_ms = self._window.presses_at_ms(request) - self._now_ms()
        return delivery.sought or left_ms >= endpoint.batches.least_s * 1000

    async def batches(self, delivery: Delivery) -> ProviderBatches:
        """Those that a task goes into.

        Raises:
            Unavailable: its model cannot be opened.
        """
        name = self._model(delivery)
        if name not in self._batches:
            model = await self._shelf.model(name)
            if name not in self._batches:
                assert isinstance(model, OpenAIBackend), "configured models with batches are"
                owner = f"{self._config.kafka.topic_prefix}/{name}"
                self._batches[name] = model.batches(owner, self._metrics)
        return self._batches[name]

    def unwanted(self, delivery: Delivery) -> None:
        """Nobody wants the answer to a task any more; to be called before its generation is cancelled."""
        if batches := self._batches.get(self._model(delivery)):
            batches.unwanted(delivery.generation_id)

    async def settled(self) -> None:
        """Until what was handed over before is in a batch, for others to find, or in none."""
        for batches in self._batches.values():
            await batches.settled()

    async def close(self) -> None:
        """Wait for no batch any more."""
        for batches in self._batches.values():
            await batches.close()

    def _model(self, delivery: Delivery) -> str:
        return self._arms.model(delivery.task, delivery.tier)
