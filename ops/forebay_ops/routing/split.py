"""How questions of one's own would spread over the tiers, by rules alone and with learned weights."""

from collections import Counter
from collections.abc import Sequence

from forebay_jobs.embedding import Embedder
from forebay_jobs.router.router import CHANCE, Router
from forebay_schemas.config import Config
from forebay_schemas.records import Message, Request

from ..reporting.tables import Table


def split(name: str, questions: Sequence[str], config: Config, router: Router, embedder: Embedder) -> Table:
    """The shares of the tiers, as if each question were asked alone; one that is not read whole goes by rules."""
    by_rules, learned = Counter[str](), Counter[str]()
    known = 0
    vectors, grasped = embedder.embed(questions), embedder.grasps(questions)
    for question, vector, whole in zip(questions, vectors, grasped, strict=True):
        request = Request(
            request_id="split", tenant="split", created_ms=0, messages=[Message(role="user", content=question)]
        )
        chosen = router.route(request, vector if whole else None)
        known += any(feature.startswith(CHANCE) for feature in chosen.features)
        learned[chosen.tier] += 1
        by_rules[router.route(request, None).tier] += 1
    count = len(questions)
    return Table(
        name="split",
        title=f"{name}: {count:,} questions, {known / count:.0%} of them like labelled ones",
        columns=("scored by", *config.tiers),
        rows=[
            (by, *(f"{tiers[tier]:,} ({tiers[tier] / count:.0%})" for tier in config.tiers))
            for by, tiers in (("rules alone", by_rules), ("with learned weights", learned))
        ],
    )
