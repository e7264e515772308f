"""What the models of a log cost: as given, else as configured."""

from collections.abc import Iterable, Mapping

from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.tiers import Price


class UnknownModels(ForebayError):
    """Calls cannot be priced; the message names their models and the mend."""

    def __init__(self, models: Iterable[str]) -> None:
        names = sorted(models)
        options = " ".join(f"--price {name}=IN/OUT" for name in names)
        super().__init__(
            f"there is no price for {', '.join(map(repr, names))}; give it in dollars per 1,000 tokens ({options}),"
            " or describe the model under models in the configuration"
        )


def prices_of_log(config: Config, given: Mapping[str, Price]) -> dict[str, Price]:
    """Prices by the names that models may have in a log: ours, those at their endpoints, and those given."""
    ours = {name: config.model_price(name) for name in config.models}
    theirs = {model.endpoint.model: ours[name] for name, model in config.models.items() if model.endpoint.model}
    return {**theirs, **ours, **given}
