"""What ``model`` may name: auto, which lets the router choose, a tier, or the model of one."""

from dataclasses import dataclass
from typing import Any

from forebay_schemas.config import Config

from .errors import ApiError

AUTO = "auto"
ANY_OTHER = "*"
"""As an alias: every name that means nothing else."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The models of one installation, as callers name them."""

    config: Config

    def tier(self, name: str) -> str | None:
        """The one tier that may answer for a model's name; None where the router chooses.

        A model that answers several tiers stands for the first of them, which costs least.

        Raises:
            ApiError: the name means nothing.
        """
        aliases = self.config.gateway.aliases
        for known in (name, aliases.get(name), aliases.get(ANY_OTHER)):
            if known == AUTO:
                return None
            if known in self.config.tiers:
                return known
            for tier, settings in self.config.tiers.items():
                if settings.model == known:
                    return tier
        raise ApiError(
            404,
            f"model: {name!a} does not exist; use one of {', '.join(self.names())}, or make it an alias"
            " (gateway.aliases)",
            code="model_not_found",
            param="model",
        )

    def names(self) -> list[str]:
        """Every name, auto first; each once."""
        tiers = self.config.tiers
        models = [tier.model for tier in tiers.values()]
        aliases = [alias for alias in self.config.gateway.aliases if alias != ANY_OTHER]
        return list(dict.fromkeys([AUTO, *tiers, *models, *aliases]))

    def listed(self, name: str) -> dict[str, Any]:
        """One of the names, as OpenAI lists models.

        Raises:
            ApiError: the name means nothing.
        """
        self.tier(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "forebay"}
