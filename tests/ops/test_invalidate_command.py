"""`forebay invalidate` from a shell, on a broker in memory."""

import datetime as dt
from collections.abc import Callable
from functools import partial

import pytest
from click.testing import CliRunner, Result
from forebay_client import core
from forebay_ops.cli.invalidate import invalidate
from forebay_schemas.errors import ForebayError

from tests.producers.doubles import MemoryKafka, applied


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> MemoryKafka:
    memory = MemoryKafka(acknowledge=applied)
    monkeypatch.setattr(core, "Outbox", memory.outbox)
    monkeypatch.setattr(core, "Inbox", memory.inbox)
    return memory


@pytest.fixture
def run(kafka: MemoryKafka) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(invalidate, arguments)


def test_it_returns_when_it_holds_and_says_what(run: Callable[..., Result], kafka: MemoryKafka) -> None:
    result = run("--source", "pricing", "--tenant", "acme", "--older-than", "2026-01-02T03:04+01:00")
    assert result.exit_code == 0
    assert "everywhere" in result.stdout
    assert "source pricing, tenant acme, completed before 2026-01-02 02:04:00 UTC" in result.stdout
    (command,) = kafka.commands
    before_ms = round(dt.datetime(2026, 1, 2, 2, 4, tzinfo=dt.UTC).timestamp() * 1000)
    arguments = {name: value for name, value in command.arguments.items() if name != "id"}
    assert arguments == {"source": "pricing", "tenant": "acme", "before_ms": str(before_ms)}
    assert "@" in command.issued_by


def test_without_a_tenant_it_is_for_all(run: Callable[..., Result], kafka: MemoryKafka) -> None:
    assert run("--prompt-version", "v7").exit_code == 0
    assert kafka.commands[0].arguments.keys() == {"prompt_version", "id"}


def test_an_age_is_one_before_now(run: Callable[..., Result], kafka: MemoryKafka) -> None:
    assert run("--older-than", "90m").exit_code == 0
    age_s = dt.datetime.now().timestamp() - int(kafka.commands[0].arguments["before_ms"]) / 1000
    assert 5_400 <= age_s < 5_430


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "acmee"), "nothing is known of 'acmee'"),
        (("--model", "llama"), "'llama' is no model; use one of llama-3.1-8b, llama-3.1-70b"),
    ],
)
def test_what_nobody_knows_is_an_error(
    run: Callable[..., Result], kafka: MemoryKafka, arguments: tuple[str, ...], said: str
) -> None:
    kafka.acknowledge = partial(applied, outcome="unknown")
    result = run(*arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Nothing changed" in result.stderr


def test_a_category_without_settings_may_be_misspelt(run: Callable[..., Result]) -> None:
    result = run("--category", "suport")
    assert result.exit_code == 0
    assert "'suport' has no settings of its own" in result.stderr


def test_what_is_not_acknowledged_is_queued(run: Callable[..., Result], kafka: MemoryKafka) -> None:
    kafka.acknowledge = lambda command: []
    result = run("--source", "pricing", "--timeout", "0.05")
    assert result.exit_code == 3
    assert "queued" in result.stderr
    result = run("--source", "pricing", "--no-wait")
    assert result.exit_code == 0
    assert "queued: source pricing" in result.stdout
    assert len(kafka.commands) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "filters: are absent"),
        (("--source", "a", "--category", "b"), "category: cannot narrow source"),
        (("--older-than", "2126-01-01"), "in the future"),
        (("--older-than", "soon"), "is no time; give one such as"),
    ],
)
def test_what_is_not_clear_is_refused(
    run: Callable[..., Result], kafka: MemoryKafka, arguments: tuple[str, ...], said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert said in (str(result.exception) if isinstance(result.exception, ForebayError) else result.stderr)
    assert kafka.controls == []
