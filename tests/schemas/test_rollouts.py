"""A rollout goes from stage to stage and takes in more each time; what cannot work is refused before it starts."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError, ForebayError
from forebay_schemas.live_rollouts import MOST_LIVE, finish, in_order, merged, start, superseded
from forebay_schemas.overrides import applied, flattened
from forebay_schemas.records import Control
from forebay_schemas.rollouts import (
    HISTORY,
    Guards,
    Rollout,
    RolloutError,
    Stage,
    Unit,
    follow,
    of_control,
    pause,
    promote,
    restate,
    resume,
    roll_back,
    to_control,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import NOW_MS

DEEP = "[" * 20_000 + "]" * 20_000
PROMPT = {"tiers.small.system_prompt": '"Be brief."'}


@pytest.fixture
def config(tmp_path: Any) -> Config:
    file = tmp_path / "forebay.toml"
    file.write_text("""
[models.served]
backend = "synthetic"
price = { input_per_1k = 0, output_per_1k = 0 }
[models.other]
backend = "synthetic"
price = { input_per_1k = 0, output_per_1k = 0 }
[models.heavy]
backend = "vllm"
weights = "w"
price = { input_per_1k = 0, output_per_1k = 0 }
[models.priced]
price = { input_per_1k = 0, output_per_1k = 0 }
[tiers.small]
complexity_up_to = 0.3
model = "served"
max_tokens = 10
[tiers.large]
complexity_up_to = 1.0
model = "served"
max_tokens = 10
""")
    return load_config(file)


def begun(
    config: Config | None = None, known: Mapping[str, Rollout] | None = None, /, name: str = "terse", **fields: Any
) -> Rollout:
    values: dict[str, Any] = {"overrides": PROMPT, "who": "ada", "why": "", "now_ms": NOW_MS, "stage": Stage.TEN}
    values |= fields
    return start(known or {}, name, values.pop("overrides"), config or load_config(), **values)


def at(stage: Stage, unit: Unit = Unit.USER, name: str = "terse") -> Rollout:
    return Rollout(
        name=name, version=1, overrides=PROMPT, stage=stage, started_ms=NOW_MS, since_ms=NOW_MS, unit=unit, history=[]
    )


# Who is in it


@pytest.mark.parametrize(("stage", "share"), [(Stage.TEN, 0.1), (Stage.FIFTY, 0.5), (Stage.NINETY, 0.9)])
def test_a_stage_takes_in_its_share(stage: Stage, share: float) -> None:
    taken = sum(at(stage).takes("acme", f"user-{number}") for number in range(4_000))
    assert taken / 4_000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4_000))


@given(tenant=st.text(min_size=1), user=st.none() | st.text(min_size=1), unit=st.sampled_from(Unit))
def test_whoever_is_in_a_stage_is_in_all_that_follow(tenant: str, user: str | None, unit: Unit) -> None:
    stages = [Stage.SHADOW, Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL]
    taken = [at(stage, unit).takes(tenant, user) for stage in stages]
    assert taken == sorted(taken)
    assert (taken[0], taken[-1]) == (False, True)
    assert not at(Stage.ROLLED_BACK).takes(tenant, user)


def test_rollouts_choose_independently() -> None:
    users = [f"user-{number}" for number in range(4_000)]
    both = sum(at(Stage.FIFTY).takes("acme", user) and at(Stage.FIFTY, name="b").takes("acme", user) for user in users)
    assert both / 4_000 == pytest.approx(0.25, abs=0.03)


@given(one=st.text(min_size=1), other=st.text(min_size=1))
def test_a_unit_stays_together(one: str, other: str) -> None:
    by_tenant, by_user = at(Stage.FIFTY, Unit.TENANT), at(Stage.FIFTY)
    assert by_tenant.takes("acme", one) is by_tenant.takes("acme", other) is by_tenant.takes("acme", None)
    assert by_user.takes("acme", None) is by_user.takes("acme", None)


# From stage to stage


def test_a_rollout_goes_through_all_stages_and_is_finished_when_the_configuration_has_what_it_changed() -> None:
    config, by = load_config(), {"who": "ada", "why": "fine", "now_ms": NOW_MS + 5}
    rollout = begun(config, stage=Stage.SHADOW)
    stages = [rollout.stage]
    while rollout.stage is not Stage.ALL:
        rollout = promote(rollout, **by)
        stages.append(rollout.stage)
    assert stages == [Stage.SHADOW, Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL]
    assert (rollout.version, rollout.since_ms) == (5, NOW_MS + 5)
    with pytest.raises(RolloutError, match="put its settings into the configuration"):
        promote(rollout, **by)
    with pytest.raises(RolloutError, match="does not have its values yet"):
        finish(rollout, {rollout.name: rollout}, config, **by)
    done = finish(rollout, {rollout.name: rollout}, applied(config, PROMPT), **by)
    assert not done.stage.live
    with pytest.raises(RolloutError, match="start it anew"):
        roll_back(done, **by)


def test_a_pause_moves_nothing_and_is_told() -> None:
    by = {"who": "ada", "why": "", "now_ms": NOW_MS + 9}
    paused = pause(begun(), **by)
    assert (paused.paused, paused.stage, paused.since_ms) == (True, Stage.TEN, NOW_MS)
    with pytest.raises(RolloutError, match="paused already"):
        pause(paused, **by)
    again = resume(paused, **by)
    assert [step.what for step in again.history] == ["start", "pause", "resume"]


def test_one_that_is_started_anew_is_another_arm_and_keeps_its_history() -> None:
    ended = roll_back(begun(), who="ada", why="slow", now_ms=NOW_MS + 1)
    anew = begun(load_config(), {"terse": ended}, now_ms=NOW_MS + 2)
    assert anew.arm != ended.arm
    assert anew.version == 3
    assert [step.why for step in anew.history] == ["", "slow", ""]


def test_history_is_bounded() -> None:
    rollout = begun()
    for number in range(HISTORY):
        move = resume if rollout.paused else pause
        rollout = move(rollout, who="ada", why="x" * 1_000, now_ms=NOW_MS + number)
    assert (len(rollout.history), rollout.forgotten) == (HISTORY, 1)
    assert len(to_control(rollout).arguments["state"]) < 100_000


# What everybody reads


def test_a_rollout_comes_back_from_the_record_that_carries_it() -> None:
    rollout = begun(unit=Unit.USER, guards=Guards(errors=0.5))
    control = to_control(rollout)
    assert (control.key, control.issued_by) == ("rollout/terse", "ada")
    assert of_control(control) == rollout
    other = Control(key="k", command="cancel", issued_ms=1, issued_by="job")
    assert of_control(other) is None
    for state in ('{"name": 3}', '{"more": ' + DEEP):
        with pytest.raises(RolloutError, match="no rollout that can be read"):
            of_control(msgspec.structs.replace(control, arguments={"state": state}))


def test_of_two_transitions_from_one_version_the_first_holds_for_everybody() -> None:
    first = begun()
    ended = roll_back(first, who="ada", why="", now_ms=NOW_MS + 1)
    promoted = promote(first, who="controller", why="", now_ms=NOW_MS + 1)
    known = follow(follow(follow({}, first), ended), promoted)
    assert known["terse"] == ended
    said_again = restate(known["terse"], who="controller", now_ms=NOW_MS + 2)
    for reader in (known, {"terse": promoted}):  # the second read only what compaction left
        assert follow(reader, said_again)["terse"].stage is Stage.ROLLED_BACK


# What is refused


REFUSED = {
    "unknown setting": ({"tiers.small.modell": '"x"'}, "tiers.small.modell: is nothing that a rollout may change"),
    "of the brokers": ({"kafka.bootstrap": '"x"'}, "kafka.bootstrap: is nothing that a rollout may change"),
    "unknown tier": ({"tiers.tiny.model": '"served"'}, "'tiny' is no tier; use one of small, large"),
    "unknown model": ({"tiers.small.model": '"x"'}, "tiers.small.model: the model 'x' is unknown"),
    "nobody serves": ({"tiers.small.model": '"priced"'}, "'priced' has no backend"),
    "not loaded": ({"tiers.small.model": '"heavy"'}, "name it in tiers.small.standby"),
    "no path": ({"tiers..model": '"x"'}, "is no setting's path"),
    "deep": ({"router.min_confidence": DEEP}, "is no JSON"),
    "deep path": ({f"a = {DEEP} #": "1"}, "is no setting's path"),
    "no JSON": ({"router.min_confidence": "high"}, "is no JSON"),
    "out of range": ({"router.min_confidence": "7"}, "router.min_confidence: Input should be less than or equal to 1"),
    "thresholds that meet": ({"tiers.small.complexity_up_to": "1.0"}, "two tiers have the same complexity_up_to"),
    "twice": ({"categories.a.tier": '"small"', "categories.a.tier.x": "1"}, "is part of another setting"),
    "a table": ({"categories.a.escalation": "{}"}, "is a table; give each of its settings"),
    "nothing": ({}, "changes nothing"),
    "as it is": ({"tiers.small.model": '"served"'}, "has these values already"),
    "too long": ({"tiers.small.system_prompt": '"' + "x" * 70_000 + '"'}, "shorten the prompts"),
}


@pytest.mark.parametrize(("overrides", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_with_its_mend(config: Config, overrides: dict[str, str], problem: str) -> None:
    with pytest.raises(ForebayError, match=problem):
        begun(config, overrides=overrides)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"name": "Not A Name"}, "is no name"),
        ({"guards": Guards(errors=3)}, "errors: is 3; give a value between 0 and 1"),
        ({"guards": Guards(min_replies=3)}, "min-replies: is 3; give a value between 20"),
        ({"stage": Stage.FINISHED}, "cannot start as finished"),
    ],
)
def test_how_it_cannot_be_started_is_said(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(RolloutError, match=problem):
        begun(**fields)


def test_live_rollouts_leave_each_others_settings_alone(config: Config) -> None:
    live = {"one": begun(config, name="one", overrides={"tiers.small.complexity_up_to": "0.4"})}
    with pytest.raises(RolloutError, match=r"tiers.small.complexity_up_to: is changed by the rollout one too"):
        begun(config, live, overrides={"tiers.small.complexity_up_to": "0.5"})
    with pytest.raises(RolloutError, match="is live"):
        begun(config, live, name="one")
    # Each would work alone; for those who are in both, two tiers would end at one complexity.
    live = {"one": begun(config, name="one", overrides={"categories.a.fresh_s": "100"})}
    with pytest.raises(RolloutError, match="cannot work for those who are in one too"):
        begun(config, live, overrides={"categories.a.exact_ttl_s": "50"})
    ended = {"one": roll_back(live["one"], who="ada", why="", now_ms=NOW_MS)}
    assert begun(config, ended, overrides={"categories.a.exact_ttl_s": "50"}).stage is Stage.TEN


# One after the other


def lies_over(config: Config, *models: str, name: str = "month") -> dict[str, Rollout]:
    """One rollout after the other gives the small tier a model, and each gets to everybody."""
    known: dict[str, Rollout] = {}
    for number, model in enumerate(models):
        overrides = {"tiers.small.model": f'"{model}"'}
        one = begun(config, known, name=f"{name}-{number}", overrides=overrides, now_ms=NOW_MS + number)
        known[one.name] = msgspec.structs.replace(one, stage=Stage.ALL)
    return known


def test_what_answers_everybody_is_the_baseline_of_the_next_which_lies_over_it(config: Config) -> None:
    known = lies_over(config, "other")
    with pytest.raises(RolloutError, match="everybody has these values already"):
        begun(config, known, overrides={"tiers.small.model": '"other"'})
    back = begun(config, known, overrides={"tiers.small.model": '"served"'}, now_ms=NOW_MS + 9)  # the configuration's
    assert superseded({**known, "terse": back}.values()) == []  # as yet it answers some
    known["terse"] = msgspec.structs.replace(back, stage=Stage.ALL)
    assert [one.name for one in superseded(known.values())] == ["month-0"]
    assert applied(config, merged(known.values())).tiers["small"].model == "served"
    with pytest.raises(RolloutError, match="month-0 makes of it would hold again; finish it first"):
        finish(known["terse"], known, config, who="ada", why="", now_ms=NOW_MS)
    known["terse"] = roll_back(known["terse"], who="ada", why="", now_ms=NOW_MS)
    assert superseded(known.values()) == []
    assert applied(config, merged(in_order(known.values()))).tiers["small"].model == "other"


def test_one_a_month_goes_on_for_ever_and_the_last_is_finished_when_the_others_are(config: Config) -> None:
    by = {"who": "ada", "why": "", "now_ms": NOW_MS}
    known = lies_over(config, *(["other", "served"] * MOST_LIVE), "other")
    assert len(superseded(known.values())) == 2 * MOST_LIVE
    then = applied(config, {"tiers.small.model": '"other"'})
    for one in in_order(known.values()):
        known[one.name] = finish(one, known, then, **by)
    assert in_order(known.values()) == []


def test_of_one_that_changes_more_the_rest_holds_beneath_the_next(config: Config) -> None:
    wide = begun(config, name="wide", overrides={"tiers.small.model": '"other"', "tiers.small.max_tokens": "7"})
    known = {"wide": msgspec.structs.replace(wide, stage=Stage.ALL)}
    over = begun(config, known, overrides={"tiers.small.model": '"served"'}, now_ms=NOW_MS + 1)
    known["terse"] = msgspec.structs.replace(over, stage=Stage.ALL)
    assert superseded(known.values()) == []
    tier = applied(config, merged(known.values())).tiers["small"]
    assert (tier.model, tier.max_tokens) == ("served", 7)
    by = {"who": "ada", "why": "", "now_ms": NOW_MS}
    then = applied(config, {"tiers.small.max_tokens": "7"})
    known["wide"] = finish(known["wide"], known, then, **by)  # of its model nothing is left that could be put in
    assert not finish(known["terse"], known, then, **by).stage.live


@given(st.text(min_size=1).filter(lambda name: name.isprintable()))
def test_any_category_has_a_path(name: str) -> None:
    overrides = flattened({"categories": {name: {"delta": 0.5}}})
    assert applied(load_config(), overrides).category(name).delta == 0.5


def test_settings_as_toml_gives_them_become_paths_and_values_and_hold_again(config: Config) -> None:
    changes = {"categories": {"shop.chat": {"delta": 0.5, "escalation": {"min_confidence": 0.1}}}}
    overrides = flattened(changes)
    assert overrides == {
        'categories."shop.chat".delta': "0.5",
        'categories."shop.chat".escalation.min_confidence': "0.1",
    }
    category = applied(config, overrides).category("shop.chat")
    assert (category.delta, category.escalation.min_confidence) == (0.5, 0.1)
    with pytest.raises(ConfigError, match=r"categories.shop.chat.delta"):
        applied(config, {'categories."shop.chat".delta': "7"})
