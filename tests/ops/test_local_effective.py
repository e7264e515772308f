"""The shipped profile, and the configuration that a stack runs with."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from forebay_ops.local.effective import (
    PROFILE,
    effective,
    free_ports,
    port_is_free,
    settings_of,
    with_free_ports,
    write_settings,
)
from forebay_ops.local.home import Home
from forebay_ops.local.parts import elsewhere, local_parts
from forebay_schemas.categories import CategoryConfig, PruningConfig
from forebay_schemas.config import Config, load_config


@pytest.fixture
def profile() -> Config:
    return load_config(PROFILE)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.at(tmp_path)


def test_the_profile_starts_everything(profile: Config, home: Home) -> None:
    names = [part.name for part in local_parts(effective(profile, home), home)]
    assert names == ["kafka", "redis", "ledger", "rollouts", "jobmanager", "taskmanager", "job", "worker", "gateway"]
    assert elsewhere(profile) == []


def test_the_profile_prices_every_tier_as_a_model_of_the_ladder(profile: Config) -> None:
    prices = [profile.price(tier).output_per_1k for tier in profile.tiers]
    assert prices == sorted(prices)
    assert prices[0] > 0


def test_ports_are_of_different_parts_and_below_those_of_outgoing_connections(profile: Config, home: Home) -> None:
    ports = [port for part in local_parts(effective(profile, home), home) for port in part.ports.values()]
    assert len(set(ports)) == len(ports) == 13
    assert max(ports) < 32_768


def test_nothing_relative_is_left(profile: Config, home: Home) -> None:
    config = effective(profile, home)
    assert config.semantic.path == home.qdrant
    assert config.flink.checkpoint_dir == home.checkpoints.as_uri()
    assert config.ledger.folder == home.ledger
    assert config.models["smollm2-135m-instruct"].weights == str(home.models / "smollm2-135m-instruct")


def test_a_cross_encoders_folder_is_found_from_everywhere(
    profile: Config, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranker").mkdir()
    named = {name: PruningConfig(cross_encoder=name, min_similarity=0) for name in ("ranker", "someone/ranker")}
    categories = {name: CategoryConfig(pruning=pruning) for name, pruning in named.items()}
    config = effective(profile.model_copy(update={"categories": categories}), home)
    found = [pruning.cross_encoder for name in named if (pruning := config.category(name).pruning)]
    assert found == [str(tmp_path / "ranker"), "someone/ranker"]


def test_what_was_configured_stays(profile: Config, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_SEMANTIC__PATH", "index")
    monkeypatch.setenv("FOREBAY_FLINK__CHECKPOINT_DIR", "s3://bucket/checkpoints")
    config = effective(load_config(PROFILE), home)
    assert config.semantic.path == Path.cwd() / "index"
    assert config.flink.checkpoint_dir == "s3://bucket/checkpoints"


def test_a_folder_of_weights_is_found_from_anywhere(
    profile: Config, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    mine = profile.models["smollm2-135m-instruct"].model_copy(update={"weights": "mine"})
    config = profile.model_copy(update={"models": {**profile.models, "smollm2-135m-instruct": mine}})
    assert effective(config, home).models["smollm2-135m-instruct"].weights == str(tmp_path / "mine")


def test_a_data_type_is_chosen_only_where_none_is_given(profile: Config, home: Home) -> None:
    model = profile.models["smollm2-135m-instruct"]
    assert effective(profile, home).models["smollm2-135m-instruct"].engine["dtype"] in ("bfloat16", "float32")
    given = model.model_copy(update={"engine": {"dtype": "float16"}})
    config = profile.model_copy(update={"models": {**profile.models, "smollm2-135m-instruct": given}})
    assert effective(config, home).models["smollm2-135m-instruct"].engine["dtype"] == "float16"


def test_what_is_effective_stays_as_it_is(profile: Config, home: Home) -> None:
    config = effective(profile, home)
    assert effective(config, home) == config


def test_the_written_file_reads_as_the_same_configuration(profile: Config, home: Home) -> None:
    config = effective(profile, home)
    write_settings(config, home.config)
    assert settings_of(load_config(home.config)) == settings_of(config)


def test_secrets_survive_in_a_file_that_only_the_user_reads(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_REDIS__URL", "redis://:secret@localhost:16379/0")
    write_settings(load_config(PROFILE), home.config)
    assert os.stat(home.config).st_mode & 0o777 == 0o600
    monkeypatch.delenv("FOREBAY_REDIS__URL")
    assert "secret" in load_config(home.config).redis.url.get_secret_value()


def test_free_ports_are_free_and_differ(profile: Config, home: Home) -> None:
    config = effective(with_free_ports(profile), home)
    ports = [port for part in local_parts(config, home) for port in part.ports.values()]
    assert len(set(ports)) == len(ports)
    assert all(port_is_free(port) for port in ports)


def test_no_two_processes_are_told_of_the_same_free_ports_before_a_server_takes_them() -> None:
    ask = f"from {free_ports.__module__} import free_ports; print(*free_ports(200), flush=True); input()"
    told = [*free_ports(100), *free_ports(100)]
    with ExitStack() as others:
        for _ in range(3):
            other = others.enter_context(Popen([sys.executable, "-c", ask], stdin=PIPE, stdout=PIPE, text=True))
            assert other.stdout is not None
            told += map(int, other.stdout.readline().split())
            others.callback(other.communicate, "\n")
    assert len(told) == len(set(told)) == 800
