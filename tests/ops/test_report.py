"""`forebay report`: its sums are those of the replies, its layers are what was saved, its page needs nothing else."""

import datetime as dt
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from forebay_ops.cli.report import report as command
from forebay_ops.figures import money, percentile
from forebay_ops.local.effective import write_settings
from forebay_ops.local.home import Home
from forebay_ops.reporting.feedback import Verdicts
from forebay_ops.reporting.outlook import DAYS_PER_MONTH, payback, project
from forebay_ops.reporting.page import page
from forebay_ops.reporting.query import Report, query
from forebay_ops.reporting.sums import SUMMED, Sums, layers
from forebay_ops.statistics import share_interval
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.records import CacheStatus, Feedback, FeedbackSource, Lane, Reply, Usage, Verdict

from tests.builders import NOW_MS, make_feedback, make_reply, make_route

from .made_up import DAY_MS, REUSED, fill, fill_feedback, ledger_config, made_up_replies

NOW = dt.datetime(2025, 10, 13)
TODAY = NOW.date()
SHADOWS = [
    make_reply(request_id=f"shadow-{number}", route=make_route(reason="shadow"), cost=0.25, baseline_cost=4.0)
    for number in range(3)
]
"""What the job asked itself."""


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, list[Reply]]:
    """A ledger of three days, and what is in it; a few replies were written twice."""
    config = ledger_config(tmp_path_factory.mktemp("ledger"))
    replies = made_up_replies(config, 600)
    repeated = [each for each in replies[-9:] if each.cache_status in REUSED]
    assert repeated
    fill(config, [*replies, *repeated, *SHADOWS], file_rows=150)
    return config, replies


@pytest.fixture(scope="module")
def found(made_up: tuple[Config, list[Reply]]) -> Report:
    return _query(made_up[0], by=[("tenant",), ("endpoint", "category")])


def _query(config: Config, **options: Any) -> Report:
    return query(config.ledger.folder, now=NOW, **options)


def _sum(replies: Iterable[Reply], value: Callable[[Reply], float]) -> float:
    return math.fsum(map(value, replies))


def same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-15)


# --- the numbers agree


def test_its_sums_are_those_of_the_replies(made_up: tuple[Config, list[Reply]], found: Report) -> None:
    replies, sums = made_up[1], found.totals
    answered = [reply for reply in replies if not reply.error]
    by_status = {status: sum(reply.cache_status is status for reply in answered) for status in CacheStatus}
    assert sums.replies == len(replies)
    assert sums.errors == len(replies) - len(answered)
    assert (sums.exact, sums.semantic, sums.joined) == tuple(by_status[status] for status in REUSED)
    assert sums.generated == by_status[CacheStatus.MISS] + by_status[CacheStatus.BYPASS]
    assert sums.escalated == sum(bool(reply.path) for reply in replies) > 0
    assert sums.reviews == sum(reply.review for reply in replies)
    assert sums.tokens == sum(reply.usage.prompt_tokens + reply.usage.completion_tokens for reply in replies)
    assert same(sums.cost, _sum(replies, lambda reply: reply.cost))
    assert same(sums.baseline_cost, _sum(replies, lambda reply: reply.baseline_cost))


def test_its_groups_are_those_of_the_replies(made_up: tuple[Config, list[Reply]], found: Report) -> None:
    by_tenant, by_both = found.groupings
    expected: defaultdict[tuple[str, ...], list[Reply]] = defaultdict(list)
    for reply in made_up[1]:
        expected[reply.tenant,].append(reply)
        expected[reply.endpoint or "-", reply.category].append(reply)
    groups = [*by_tenant.groups, *by_both.groups]
    assert {group.key for group in groups} == expected.keys()
    for group in groups:
        assert group.sums.replies == len(expected[group.key])
        assert same(group.sums.cost, _sum(expected[group.key], lambda reply: reply.cost))


def test_days_tiers_and_groups_add_up_to_the_whole(found: Report) -> None:
    every_way = [
        [sums for _, sums in found.days],
        [sums for _, sums in found.months],
        *([group.sums for group in each.groups] for each in (*found.groupings, found.endpoints)),
    ]
    for parts in every_way:
        for name in SUMMED:
            assert same(math.fsum(getattr(sums, name) for sums in parts), getattr(found.totals, name)), name
    assert sum(count for *_, count in found.tiers_by_day) == found.totals.generated


def test_percentiles_are_those_of_the_replies(made_up: tuple[Config, list[Reply]], found: Report) -> None:
    for rows, name_of in (
        (found.by_status, lambda reply: reply.cache_status.value),
        (found.by_model, lambda reply: reply.model_id if reply.cache_status not in REUSED else None),
    ):
        for row in rows:
            of_row = [r.latency.total_ms for r in made_up[1] if not r.error and name_of(r) == row.name]
            assert row.answers == len(of_row)
            expected = [percentile(of_row, percent) for percent in (50, 95, 99)]
            assert [row.p50_ms, row.p95_ms, row.p99_ms] == expected


def test_repeats_are_told_and_counted_nowhere(made_up: tuple[Config, list[Reply]], found: Report) -> None:
    assert found.repeats == sum(each.cache_status in REUSED for each in made_up[1][-9:])
    assert found.repeats_cost == 0


def test_what_the_job_asks_itself_is_told_and_counted_nowhere(found: Report) -> None:
    assert (found.shadows, found.shadows_cost) == (3, 0.75)


# --- what saved it


def test_the_layers_add_up_to_what_was_saved(found: Report) -> None:
    assert same(math.fsum(layer.saved for layer in layers(found.totals)), found.totals.saved)
    assert all(layer.saved for layer in layers(found.totals))


def test_each_layer_is_what_it_says(tmp_path: Path) -> None:
    config = ledger_config(tmp_path)
    usage = Usage(prompt_tokens=1000, completion_tokens=1000)
    common = {"usage": usage, "baseline_cost": 8.0}
    small = {"tier": "small", "model_id": "llama-3.1-8b", **common}
    batch_cost = (0.00005 + 0.00008) / 2
    replies = [
        *(make_reply(cache_status=status, hops=0, **common) for status in REUSED),
        make_reply(cost=2.0, **small),
        make_reply(cost=batch_cost, lane=Lane.BATCH, **small),
    ]
    fill(config, [make_reply_with_id(reply, number) for number, reply in enumerate(replies)])
    saved = {layer.name: layer.saved for layer in layers(_query(config).totals)}
    assert saved == {
        "exact hits": 8.0,
        "semantic hits": 8.0,
        "joined in flight": 8.0,
        "smaller models": pytest.approx(6.0 + 8.0 - 2 * batch_cost),
        "prefix cache": 0.0,
        "batch price": pytest.approx(batch_cost),
        "escalation": 0.0,
    }


def make_reply_with_id(reply: Reply, number: int) -> Reply:
    return make_reply(**{name: getattr(reply, name) for name in reply.__struct_fields__} | {"request_id": f"r{number}"})


# --- feedback


def _thumb(reply: Reply, verdict: Verdict, **fields: Any) -> Feedback:
    about = {"request_id": reply.request_id, "tenant": reply.tenant, "given_ms": reply.completed_ms + 9_000}
    return make_feedback(**about | {"verdict": verdict} | fields)


def _rated(tmp_path: Path, replies: list[Reply], given: list[Feedback], **options: Any) -> dict[str, Verdicts]:
    """The verdicts by category."""
    config = ledger_config(tmp_path)
    fill(config, replies)
    fill_feedback(config, given)
    return dict(_query(config, **options).disliked)


UP, DOWN = Verdict.UP, Verdict.DOWN


def test_verdicts_are_counted_by_category_cache_status_and_group(tmp_path: Path) -> None:
    config = ledger_config(tmp_path)
    replies = made_up_replies(config, 300)
    fill(config, [*replies, *(each for each in replies[-9:] if each.cache_status in REUSED)])
    rated = [(reply, DOWN if number % 3 else UP) for number, reply in enumerate(replies[::2])]
    fill_feedback(config, [_thumb(reply, verdict) for reply, verdict in rated])
    found = _query(config, by=[("tenant",)])
    groups = {group.key[0]: group.verdicts for group in found.groupings[0].groups}
    for counted, value in (
        (dict(found.disliked), lambda reply: reply.category),
        (dict(found.rated), lambda reply: reply.cache_status.value),
        (groups, lambda reply: reply.tenant),
    ):
        expected: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for reply, verdict in rated:
            expected[value(reply)][verdict is DOWN] += 1
        assert counted == {name: Verdicts(*counts) for name, counts in expected.items()}
    [summed_up] = _query(config, by=[("tenant",)], top=1).groupings
    assert summed_up.rest is not None
    assert summed_up.groups[0].verdicts.rated + summed_up.rest.verdicts.rated == len(rated)


def test_of_what_one_user_says_the_latest_counts_and_others_have_a_voice_too(tmp_path: Path) -> None:
    reply = make_reply(category="chat")
    later = reply.completed_ms + 60_000
    given = [
        _thumb(reply, DOWN, user="ada"),
        _thumb(reply, UP, user="ada", given_ms=later),
        _thumb(reply, DOWN, user="bob", given_ms=later),
        _thumb(reply, UP, user="bob"),  # given before, and late to arrive
        _thumb(reply, UP),
        _thumb(reply, DOWN),  # at the same moment: the last that came
        _thumb(reply, DOWN, source=FeedbackSource.JUDGE),
    ]
    assert _rated(tmp_path, [reply], given) == {"chat": Verdicts(up=1, down=3)}


def test_feedback_touches_no_reply_of_another_tenant(tmp_path: Path) -> None:
    replies = [make_reply(tenant=tenant, category=tenant) for tenant in ("acme", "globex")]
    assert _rated(tmp_path, replies, [_thumb(replies[0], DOWN)]) == {"acme": Verdicts(up=0, down=1)}


def test_feedback_is_about_the_last_reply_before_it(tmp_path: Path) -> None:
    """A nightly batch uses its ids again; a verdict does not wander to another night, whichever period is looked at."""
    nights = [make_reply(category=f"night {n}", completed_ms=NOW_MS + n * DAY_MS) for n in range(3)]
    given = [
        _thumb(nights[0], DOWN, given_ms=NOW_MS - 7_200_000),  # before all of them: about none that is known
        _thumb(nights[0], DOWN),
        _thumb(nights[1], UP, given_ms=nights[1].completed_ms - 30_000),  # by a clock that is slow
    ]
    both = {"night 0": Verdicts(up=0, down=1), "night 1": Verdicts(up=1, down=0)}
    config = ledger_config(tmp_path)
    fill(config, nights)
    fill_feedback(config, given)
    assert dict(_query(config).disliked) == both
    assert dict(_query(config, since=dt.datetime(2025, 10, 11)).disliked) == {}
    first_night = _query(config, until=dt.datetime(2025, 10, 10))
    assert dict(first_night.disliked) == {"night 0": Verdicts(up=0, down=1)}


def test_the_worst_categories_are_those_that_are_surely_bad(tmp_path: Path) -> None:
    categories = {"one of one": [DOWN], "half of many": [UP, DOWN] * 25, "few of many": [UP] * 45 + [DOWN] * 5}
    thumbs = [(name, verdict) for name, verdicts in categories.items() for verdict in verdicts]
    replies = [make_reply(request_id=f"r{number}", category=name) for number, (name, _) in enumerate(thumbs)]
    given = [_thumb(reply, verdict) for reply, (_, verdict) in zip(replies, thumbs, strict=True)]
    assert list(_rated(tmp_path, replies, given)) == ["half of many", "one of one", "few of many"]


@pytest.mark.parametrize(
    ("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)]
)
def test_a_shares_interval_is_wilsons(count: int, of: int, low: float, high: float) -> None:
    found = share_interval(count, of)
    assert (found.mean, found.low, found.high) == pytest.approx((count / of, low, high), abs=5e-5)


def test_feedback_is_in_the_tables_and_on_the_page_where_there_is_any(tmp_path: Path) -> None:
    config = ledger_config(tmp_path)
    fill(config, [make_reply(category="chat")])
    assert "thumbs down" not in page(_query(config, by=[("tenant",)]), "Costs")
    fill_feedback(config, [_thumb(make_reply(), DOWN)])
    parsed = _Page()
    parsed.feed(page(_query(config, by=[("tenant",)]), "Costs"))
    for text in ("Worst categories by feedback", "Feedback by cache status", "20.7% to 100.0%", "100.0% of 1"):
        assert text in parsed.text
    assert parsed.tags.count("svg") == 9


# --- the period


def test_a_period_has_its_beginning_and_not_its_end(made_up: tuple[Config, list[Reply]]) -> None:
    config, replies = made_up
    since, until = dt.datetime(2025, 10, 10, 6), dt.datetime(2025, 10, 11)
    begin_ms, end_ms = (round(each.replace(tzinfo=dt.UTC).timestamp() * 1000) for each in (since, until))
    within = [reply for reply in replies if begin_ms <= reply.completed_ms < end_ms]
    assert _query(config, since=since, until=until).totals.replies == len(within) > 0


def test_an_empty_ledger_and_an_empty_period_say_what_to_do(
    made_up: tuple[Config, list[Reply]], tmp_path: Path
) -> None:
    with pytest.raises(ForebayError, match="is empty; `forebay ledger` fills it"):
        query(tmp_path, now=NOW)
    with pytest.raises(ForebayError, match="nothing in this period"):
        _query(made_up[0], since=NOW)


def test_groups_beyond_the_top_are_summed_up(made_up: tuple[Config, list[Reply]]) -> None:
    [by_tenant] = _query(made_up[0], by=[("tenant",)], top=1).groupings
    assert len(by_tenant.groups) == 1
    assert by_tenant.others == 2
    assert by_tenant.rest is not None
    assert by_tenant.groups[0].sums.replies + by_tenant.rest.sums.replies == len(made_up[1])
    [by_hour] = _query(made_up[0], by=[("hour",)], top=1).groupings
    assert [group.key[0] for group in by_hour.groups] == [f"{hour:02}:00" for hour in range(24)]


# --- the outlook


def _day_of(cost: float, baseline: float) -> Sums:
    values: dict[str, Any] = dict.fromkeys(SUMMED, 0) | {"cost": cost, "baseline_cost": baseline}
    return Sums(**values)


def test_the_projection_is_the_pace_of_the_last_whole_week() -> None:
    days = [(TODAY - dt.timedelta(days=back), _day_of(100.0 if back == 8 else 7.0, 70.0)) for back in range(8, 0, -1)]
    projection = project([*days, (TODAY, _day_of(0.1, 0.1))], TODAY)
    assert projection is not None
    assert (projection.days, projection.cost, projection.baseline_cost) == (7, 7.0, 70.0)
    assert projection.monthly_cost == 210.0


def test_a_day_without_replies_slows_the_pace() -> None:
    ago = [TODAY - dt.timedelta(days=back) for back in range(5)]
    projection = project([(ago[4], _day_of(9.0, 9.0)), (ago[3], _day_of(2.0, 2.0)), (ago[1], _day_of(4.0, 4.0))], TODAY)
    assert projection is not None
    assert (projection.days, projection.cost) == (3, 2.0)


def test_without_a_whole_day_nothing_is_projected() -> None:
    assert project([], TODAY) is None
    assert project([(TODAY, _day_of(1.0, 1.0))], TODAY) is None
    assert project([(TODAY - dt.timedelta(days=1), _day_of(1.0, 1.0)), (TODAY, _day_of(1.0, 1.0))], TODAY) is None


def test_payback_counts_the_fixed_costs_of_the_period() -> None:
    found = payback(_day_of(100.0, 1100.0), DAYS_PER_MONTH / 2, {"machines": 150.0, "people": 50.0})
    assert found is not None
    assert found.fixed_cost == pytest.approx(100.0)
    assert found.spent == pytest.approx(200.0)
    assert found.returned == pytest.approx(4.5)
    assert found.days == pytest.approx(DAYS_PER_MONTH / 10)


def test_what_never_pays_back_says_so() -> None:
    found = payback(_day_of(10.0, 10.0), 30.0, {"machines": 1000.0})
    assert found is not None
    assert found.days is None
    assert found.returned < 0
    assert payback(_day_of(10.0, 20.0), 30.0, {}) is None


# --- how it looks


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_has_its_plots(found: Report) -> None:
    text = page(found, "Costs")
    parsed = _Page()
    parsed.feed(text)
    assert parsed.tags.count("svg") == 7
    assert all(address.startswith("#") for address in parsed.addresses)
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert money(found.totals.cost) in parsed.text


def test_names_on_the_page_are_no_markup(tmp_path: Path) -> None:
    config = ledger_config(tmp_path)
    name = "<script>alert(1)</script>"
    fill(config, [make_reply(endpoint=name, model_id=name, category=name, tier=name, review=True)])
    text = page(_query(config, by=[("endpoint",)]), name)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_one_reply_makes_a_page(tmp_path: Path) -> None:
    config = ledger_config(tmp_path)
    fill(config, [make_reply(route=None, tier=None, model_id=None, hops=0)])
    assert "<svg" in page(_query(config), "Costs")


def test_the_command_prints_the_tables_and_writes_the_page(
    made_up: tuple[Config, list[Reply]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_LEDGER__FOLDER", str(made_up[0].ledger.folder))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    arguments = ["--since", "2025-10-09", "--until", "2025-10-12", "--by", "endpoint,tenant", "--by", "hour"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for text in ("The bill", "What saved it", "By endpoint, tenant", "By hour", "/chat · acme", "added up in"):
        assert text in done.output
    assert "By endpoint, tenant" in (tmp_path / "report.html").read_text()


def test_a_stopped_stacks_replies_are_reported(
    made_up: tuple[Config, list[Reply]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(tmp_path / "home")
    home.root.mkdir()
    write_settings(made_up[0], home.config)
    monkeypatch.setenv("FOREBAY_HOME", str(home.root))
    monkeypatch.delenv("FOREBAY_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, catch_exceptions=False)
    assert re.search(rf"requests\s+{len(made_up[1])}\s", done.output)


@pytest.mark.parametrize(
    ("option", "value", "mend"),
    [("--since", "yesterday", "give one such as 24h, 7d"), ("--by", "tenant,colour", "use some of tenant, endpoint")],
)
def test_an_option_that_makes_no_sense_says_what_would(option: str, value: str, mend: str) -> None:
    done = CliRunner().invoke(command, [option, value])
    assert done.exit_code == 2
    assert mend in done.output


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "-"), (0.0, "$0"), (1234567.891, "$1,234,567.89"), (0.9999, "$1.00"), (0.0123456, "$0.0123"),
     (-0.5, "-$0.500"), (1.2345e-7, "$0.000000123")],
)  # fmt: skip
def test_money_is_cents_or_three_digits(amount: float | None, text: str) -> None:
    assert money(amount) == text
