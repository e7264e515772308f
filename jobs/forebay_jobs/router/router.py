"""The router: which tier a request goes to, by tasks, by what was learned from labels, else by rules."""

import logging
from collections.abc import Mapping

import msgspec
import numpy as np
from forebay_schemas.canonical import category_of, question_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request, Route

from . import rules
from .features import features_of
from .ladder import choose
from .learned import Floats, Scorer
from .tasks import task_of
from .weights import UnfitWeights, weights_of
from .worth import complexity_of, interpolated, price_shares

CHANCE = "chance."
"""Before a tier's name among the features of a route: the chance that its answer is good."""

_MOST_ARMS = 16
"""Routers kept beside the configuration's own: rollouts at the same time are few, and those that are over are not
asked for."""

logger = logging.getLogger(__name__)


class Router:
    """Routes requests by one configuration. Safe to share between threads.

    Attributes:
        scorer: the learned one; None where the configuration names none, or its weights do not fit: then rules hold.
        unfit: why its weights do not fit; None where they do.
    """

    def __init__(self, config: Config, otherwise: "Router | None" = None) -> None:
        """``otherwise`` is the router whose scorer goes on where this one's weights do not fit; None: rules hold."""
        self._config = config
        self._tiers = list(config.tiers)
        self._prices = price_shares(config)
        self.scorer: Scorer | None = None
        self.unfit: str | None = None
        self._told_of_vectors = False
        try:
            weights = weights_of(config)
            self.scorer = Scorer(weights) if weights else None
        except UnfitWeights as error:
            self.unfit = str(error)
            self.scorer = otherwise.scorer if otherwise else None
            whose = "requests" if otherwise is None else "requests of a rollout's arm"
            logger.warning("%s; until then %s are routed %s", error, whose, "as before" if self.scorer else "by rules")

    @property
    def identity(self) -> str:
        """Equal where the learned scorer is asked the same questions and makes the same of them; empty without one."""
        if self.scorer is None:
            return ""
        categories = self._config.model_dump_json(include={"categories"})
        return f"{self.scorer.weights.version} {self._prices} {categories}"

    def route(self, request: Request, vector: Floats | None) -> Route:
        """Choose a tier for a request by what is asked.

        Args:
            vector: the unit vector of its question; None where it was not embedded: then rules hold, as they do for a
                question that is unlike all that were labelled.
        """
        features = features_of(request)
        category = category_of(request)
        score = rules.score(features)
        chances = self.chances(question_of(request), features, vector)
        if chances is not None:
            score = self.score(chances, category)
            features |= {"recognised": 1.0} | {CHANCE + tier: chance for tier, chance in chances.items()}
        task = task_of(request, self._config)
        chosen = choose(*score, category, request.min_tier, request.max_tier, self._config, task and task[1])
        return msgspec.structs.replace(chosen, features=features)

    def chances(
        self, question: str | None, features: Mapping[str, float], vector: Floats | None
    ) -> dict[str, float] | None:
        """That each tier answers a question well; None where rules hold."""
        if self.scorer is None or vector is None or not question:
            return None
        if len(vector) != self.scorer.dimensions:  # another model in the folder that embedding.model names
            self._tell_of_vectors(len(vector))
            return None
        known = self.scorer.of(question, features, vector)
        return None if known is None else interpolated(known, self._tiers)

    def _tell_of_vectors(self, dimensions: int) -> None:
        if self._told_of_vectors or self.scorer is None:
            return
        self._told_of_vectors = True
        logger.warning(
            "embedding.model: vectors have %d numbers, and router.weights reads %d; requests are routed by rules: train"
            " weights for this model with `forebay router train`",
            dimensions,
            self.scorer.dimensions,
        )

    def score(self, chances: Mapping[str, float], category: str) -> rules.Score:
        """The complexity that follows from the chances of all tiers, their prices and what the category wants."""
        quality = self._config.category(category).quality
        return rules.Score(complexity_of(list(chances.values()), self._prices, quality), recognised=True)


class Routers:
    """The routers of a configuration and of what rollouts make of it, each made once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._own = Router(config)
        self._others: list[tuple[Config, Router]] = []

    def of(self, config: Config) -> Router:
        """The router for a configuration, known by being the same object."""
        if config is self._config:
            return self._own
        for known, router in self._others:
            if known is config:
                return router
        made = Router(config, self._own)
        self._others = [(config, made), *self._others[: _MOST_ARMS - 1]]
        return made


def vector_in(data: bytes | None) -> Floats | None:
    """The vector in its bytes, float32, as the desk passes it on."""
    return np.frombuffer(data, np.float32) if data else None
