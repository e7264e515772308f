"""Why a request gets its tier, as tables."""

from forebay_jobs.router import rules
from forebay_jobs.router.features import FEATURES, features_of
from forebay_jobs.router.learned import Floats
from forebay_jobs.router.router import CHANCE, Router
from forebay_jobs.router.tasks import task_of
from forebay_jobs.router.worth import price_shares
from forebay_schemas.canonical import category_of, question_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request, Route

from ..reporting.tables import Table

_REASONS = {
    "complexity": "its complexity is in the tier's range",
    "low_confidence": "below router.min_confidence, so one tier up",
    "category": "its category's own tier",
    "task": "its task's tier",
    "min_tier": "the request's min_tier",
    "max_tier": "the request's max_tier",
}


def explained(request: Request, config: Config, router: Router, vector: Floats | None) -> list[Table]:
    """What was decided, by what, and what each tier would take.

    Args:
        vector: of its question, as the router got it.
    """
    route = router.route(request, vector)
    learned = any(name.startswith(CHANCE) for name in route.features)
    return [
        Table("route", "The route", ("", ""), _route(request, config, router, route, vector, learned)),
        Table(
            "ladder", "The ladder", ("tier", "complexity from", "to", "chance", "price share"), _ladder(config, route)
        ),
        _learned(request, router, vector) if learned and vector is not None else _rules(route),
    ]


def _route(
    request: Request, config: Config, router: Router, route: Route, vector: Floats | None, learned: bool
) -> list[tuple[str, ...]]:
    category, task = category_of(request), task_of(request, config)
    return [
        ("tier", route.tier),
        ("because", _REASONS.get(route.reason, route.reason)),
        ("complexity", f"{route.complexity:.3f}"),
        ("confidence", f"{route.confidence:.2f}, at least {config.router.min_confidence:.2f} wanted"),
        ("scored by", "learned weights" if learned else f"rules: {_why_rules(request, router, route, vector)}"),
        ("task", f"{task[0]}, goes to {task[1]}" if task else "none of router.tasks"),
        ("category", f"{category}, wanted quality {config.category(category).quality:.2f}"),
        ("bounds", f"{request.min_tier or 'none'} to {request.max_tier or 'none'}"),
    ]


def _why_rules(request: Request, router: Router, route: Route, vector: Floats | None) -> str:
    if router.scorer is None:
        return router.unfit or "router.weights is none"
    if vector is None:
        return "its question is not compared by meaning"
    weights = router.scorer.weights
    if len(vector) != router.scorer.dimensions:
        return (
            f"its vector has {len(vector)} numbers, and the weights read {router.scorer.dimensions}: embedding.model is"
            f" another model than {' or '.join(weights.models)}; train them with `forebay router train`"
        )
    distance = router.scorer.distance(route.features, vector)
    if distance > weights.familiar_within:
        return f"unlike all labelled questions, {distance:.2f} from the nearest; {weights.familiar_within:.2f} would do"
    beyond = [
        name
        for name, least, most in zip(FEATURES, weights.least, weights.most, strict=True)
        if not least <= route.features[name] <= most
    ]
    return f"no labelled question had so much of {', '.join(beyond)}"


def _ladder(config: Config, route: Route) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    begin = 0.0
    for (name, tier), share in zip(config.tiers.items(), price_shares(config), strict=True):
        chance = route.features.get(CHANCE + name)
        rows.append((name, f"{begin:.2f}", f"{tier.complexity_up_to:.2f}", _percent(chance), f"{share:.3f}"))
        begin = tier.complexity_up_to
    return rows


def _percent(chance: float | None) -> str:
    return "" if chance is None else f"{chance:.0%}"


def _rules(route: Route) -> Table:
    rows = [
        (name, f"{route.features[name]:.2f}" if name in FEATURES else "", f"{added:+.3f}")
        for name, added in sorted(rules.contributions(route.features).items(), key=lambda item: -item[1])
        if added
    ]
    return Table("features", "What adds to the complexity", ("feature", "value", "adds"), rows)


def _learned(request: Request, router: Router, vector: Floats) -> Table:
    assert router.scorer is not None
    features = features_of(request)
    found = router.scorer.contributions(question_of(request) or "", features, vector)
    tiers = router.scorer.weights.tiers
    rows = [
        (
            one.name,
            f"{features[one.name]:.2f}" if one.name in FEATURES else "",
            *(f"{one.by_tier[tier]:+.3f}" for tier in tiers),
        )
        for one in found
        if any(one.by_tier.values())
    ]
    return Table("features", "What adds to the logit of each tier's chance", ("from", "value", *tiers), rows)
