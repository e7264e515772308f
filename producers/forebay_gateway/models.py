"""What ``model`` may name: auto, which lets the router choose, a tier, or the model of one."""

from dataclasses import dataclass
from typing import Any

from forebay_client.openai_format import model_names, tier_of_model
from forebay_schemas.config import Config
from forebay_schemas.errors import InvalidRequest

from .errors import ApiError


@dataclass(frozen=True, slots=True)
class Ladder:
    """The models of one installation, as callers name them."""

    config: Config

    def tier(self, name: str) -> str | None:
        """The one tier that may answer for a model's name, as ``tier_of_model`` tells; None where the router chooses.

        Raises:
            ApiError: the name means nothing.
        """
        try:
            return tier_of_model(name, self.config)
        except InvalidRequest as error:
            raise ApiError(404, str(error), code="model_not_found", param="model") from None

    def names(self) -> list[str]:
        """Every name, auto first; each once."""
        return model_names(self.config)

    def listed(self, name: str) -> dict[str, Any]:
        """One of the names, as OpenAI lists models.

        Raises:
            ApiError: the name means nothing.
        """
        self.tier(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "forebay"}
