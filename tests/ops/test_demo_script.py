"""The shipped script: every line is what it says it is, checked with the rules of the job."""

from collections import Counter

import pytest
from forebay_jobs.reuse.eligibility import Reuse, reuse_of
from forebay_jobs.router.router import Router
from forebay_ops.demo.script import Expect, Line, load_script
from forebay_ops.local.effective import PROFILE
from forebay_schemas.canonical import digests
from forebay_schemas.codec import Codec
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import InvalidRequest
from forebay_schemas.records import CachePolicy, Lane, Request
from forebay_schemas.validation import validate

NOW_MS = 1_700_000_000_000

LINES = load_script()
NAMED = {line.name: line for line in LINES if line.name}
REQUESTS = {line.number: line.request("run", NOW_MS) for line in LINES if line.raw is None}


@pytest.fixture
def config() -> Config:
    return load_config(PROFILE)


def of(*kinds: Expect) -> list[Line]:
    return [line for line in LINES if line.expect in kinds]


def test_the_script_shows_each_mechanism_often_enough_and_generates_little_enough():
    counts = Counter(line.expect for line in LINES)
    assert 90 <= len(LINES) <= 110
    assert counts[Expect.EXACT] >= 20
    assert counts[Expect.SEMANTIC] >= 12
    assert counts[Expect.JOINED] >= 2
    assert counts[Expect.BYPASS] >= 6
    assert counts[Expect.ERROR] >= 1
    assert counts[Expect.DEAD_LETTER] >= 3
    assert 45 <= counts[Expect.MISS] + counts[Expect.BYPASS] <= 60
    assert len({line.tenant for line in LINES if line.tenant}) == 3
    assert sum(request.lane is Lane.BATCH for request in REQUESTS.values()) >= 2


def test_what_the_client_sends_is_valid_and_the_rest_is_refused(config: Config):
    for line in LINES:
        if line.raw is not None:
            continue
        if line.expect is Expect.DEAD_LETTER:
            assert line.unchecked
            with pytest.raises(InvalidRequest):
                validate(REQUESTS[line.number], config)
        else:
            validate(REQUESTS[line.number], config)


def test_every_line_can_be_written_to_the_topic_and_shown_in_an_ascii_log():
    for line in LINES:
        assert line.question.isascii()
        assert (line.note or "").isascii()
        if line.raw is None:
            assert Codec().decode(Codec().encode(REQUESTS[line.number]), Request) == REQUESTS[line.number]


def test_moments_come_in_order_and_a_line_builds_on_an_earlier_one():
    assert [line.at for line in LINES] == sorted(line.at for line in LINES)
    for line in LINES:
        if line.after:
            assert NAMED[line.after].at < line.at


def test_runs_share_no_answer_and_no_request_id():
    line = LINES[0]
    one, other = line.request("one", NOW_MS), line.request("other", NOW_MS)
    assert one.request_id != other.request_id
    assert digests(one).exact != digests(other).exact


def test_exact_repeats_are_equal_to_the_line_they_repeat():
    for line in of(Expect.EXACT):
        assert line.after, line
        assert _digest(line) == _digest(NAMED[line.after]), line


def test_joined_lines_are_equal_to_a_miss_of_the_same_moment():
    for line in of(Expect.JOINED):
        leaders = [other for other in of(Expect.MISS) if other.at == line.at]
        assert _digest(line) in map(_digest, leaders), line


def test_time_sensitive_personal_and_varied_requests_are_recognised_and_only_those(config: Config):
    reasons = Counter[Reuse]()
    for line in of(Expect.EXACT, Expect.SEMANTIC, Expect.JOINED, Expect.MISS, Expect.BYPASS):
        request = REQUESTS[line.number]
        reuse = reuse_of(request, config)
        reasons[reuse] += 1
        generated = not reuse.allowed or request.cache.policy is not CachePolicy.USE
        assert generated == (line.expect is Expect.BYPASS), line
    for reason in (Reuse.TIME_SENSITIVE, Reuse.USER_SPECIFIC, Reuse.TEMPERATURE, Reuse.POLICY):
        assert reasons[reason] >= 1, reason


def test_easy_and_hard_questions_spread_over_all_tiers(config: Config):
    router = Router(config)
    tiers = Counter(router.route(REQUESTS[line.number], None).tier for line in of(Expect.MISS))
    assert tiers["small"] > tiers["medium"] >= 4
    assert tiers["large"] >= 4


def test_wrong_and_missed_reuse_are_both_shown():
    notes = [line.note or "" for line in LINES]
    assert sum(note.startswith("WRONG") for note in notes) >= 3
    assert sum(note.startswith("MISSED") for note in notes) >= 2


def test_an_expired_line_has_a_deadline_in_the_past():
    for line in of(Expect.ERROR):
        deadline_ms = REQUESTS[line.number].deadline_ms
        assert deadline_ms is not None
        assert deadline_ms < NOW_MS


def _digest(line: Line) -> str:
    return digests(REQUESTS[line.number]).exact
