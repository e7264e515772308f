"""Tasks whose tier is known without looking at the question."""

from forebay_schemas.canonical import category_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request
from forebay_schemas.sections import LARGEST, SMALLEST


def task_of(request: Request, config: Config) -> tuple[str, str] | None:
    """The first task of the configuration that a request is, and its tier; None where it is none of them."""
    asked = {"category": category_of(request), "endpoint": request.endpoint, "tenant": request.tenant}
    for name, task in config.router.tasks.items():
        given = {what: value for what in asked if (value := getattr(task, what)) is not None}
        if all(asked[what] == value for what, value in given.items()):
            return name, _tier(task.tier, list(config.tiers))
    return None


def _tier(named: str, tiers: list[str]) -> str:
    """A tier of the configuration; one that is really called so comes before the end of the ladder."""
    ends = {SMALLEST: tiers[0], LARGEST: tiers[-1]}
    return named if named in tiers else ends[named]
