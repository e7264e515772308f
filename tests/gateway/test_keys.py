"""Who may call: keys are known by their hashes, limits hold for all copies together, and nobody else gets in."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from forebay_gateway.keys import KeyFile, Keys
from forebay_gateway.serve import serve
from forebay_ops.cli.gateway import gateway as command
from forebay_schemas.config import Config, changed
from forebay_schemas.errors import ConfigError, ErrorCode
from forebay_schemas.records import Hop, ReplyError, Usage
from openai import APIStatusError, APITimeoutError, AuthenticationError, OpenAI, RateLimitError

from tests.builders import make_reply
from tests.gateway.running import Gateway, gateway_on
from tests.gateway.test_chat import HELLO, answering
from tests.producers.doubles import MemoryKafka, silence
from tests.redis_server import RedisServer
from tests.waiting import eventually


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def keyed(tmp_path: Path, config: Config, redis_server: RedisServer) -> Config:
    """A configuration with keys, and a real Redis."""
    return changed(
        config,
        {
            "redis": {"url": redis_server.url, "timeout_ms": 5_000},
            "gateway": {"key_file": tmp_path / "keys.json"},
        },
    )


def client(gateway: Gateway, key: str) -> OpenAI:
    return OpenAI(base_url=gateway.url, api_key=key, max_retries=0)


def ask(gateway: Gateway, key: str) -> Any:
    return client(gateway, key).chat.completions.create(model="auto", messages=HELLO)


def test_a_key_says_whose_call_it_is(kafka: MemoryKafka, keyed: Config, file: KeyFile) -> None:
    key, text = file.create("acme")
    with gateway_on(keyed) as gateway:
        ask(gateway, text)
        assert kafka.sent[0].request.tenant == "acme"
        wrong = [text[:-1] + ("A" if text[-1] != "A" else "B"), "fb_000000000000_" + text[16:], "sk-1", key.id]
        for other in wrong:
            with pytest.raises(AuthenticationError) as refused:
                ask(gateway, other)
            assert refused.value.code == "invalid_api_key"
        assert httpx.get(f"{gateway.url}/models").status_code == 401
        assert gateway.counted("forebay_gateway_refused_total", reason="key") == len(wrong) + 1
    assert len(kafka.sent) == 1


def test_the_file_holds_no_secret_and_only_its_owner_may_read_it(file: KeyFile, tmp_path: Path) -> None:
    _, text = file.create("acme")
    assert text[16:] not in (tmp_path / "keys.json").read_text()
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0


def test_who_may_read_the_file_may_do_so_after_a_change(file: KeyFile, tmp_path: Path) -> None:
    key, _ = file.create("acme")
    path = tmp_path / "keys.json"
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 4_242, 4_242)  # as whom a gateway runs
    before = path.stat()
    file.change(key.id, requests_per_min=5)
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_changed_file_is_noticed_and_a_broken_one_locks_nobody_out(tmp_path: Path, file: KeyFile) -> None:
    now_s = 0.0
    first, text = file.create("acme")
    keys = Keys(tmp_path / "keys.json", clock=lambda: now_s)
    later, other = file.create("globex")
    assert keys.of(other) is None  # it looks once a second
    now_s = 1.0
    assert keys.of(other) == later
    (tmp_path / "keys.json").write_text("half")
    now_s = 2.0
    assert keys.of(text) == first
    (tmp_path / "keys.json").unlink()
    now_s = 3.0
    assert keys.of(text) == first
    file.create("initech")  # the others are gone with the file
    now_s = 4.0
    assert keys.of(text) is None
    (tmp_path / "keys.json").write_text("half")
    with pytest.raises(ConfigError, match=r"keys\.json cannot be read"):
        Keys(tmp_path / "keys.json")


def test_calls_a_minute_are_counted_over_all_copies(kafka: MemoryKafka, keyed: Config, file: KeyFile) -> None:
    _, text = file.create("acme", requests_per_min=5)
    with ExitStack() as copies:
        gateways = [copies.enter_context(gateway_on(keyed)) for _ in range(2)]
        for number in range(5):
            ask(gateways[number % 2], text)
        for gateway in gateways:
            with pytest.raises(RateLimitError) as refused:
                ask(gateway, text)
            assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
            assert 1 <= int(refused.value.response.headers["retry-after"]) <= 12
    assert len(kafka.sent) == 5


def test_at_once_no_more_calls_pass_than_one_by_one(kafka: MemoryKafka, keyed: Config, file: KeyFile) -> None:
    _, text = file.create("acme", requests_per_min=5)
    with gateway_on(keyed) as gateway, client(gateway, text) as openai, ThreadPoolExecutor(20) as callers:

        def passes(_: int) -> bool:
            try:
                return bool(openai.chat.completions.create(model="auto", messages=HELLO))
            except RateLimitError:
                return False

        assert sum(callers.map(passes, range(20))) == 5


def test_tokens_are_charged_when_they_are_known(kafka: MemoryKafka, keyed: Config, file: KeyFile) -> None:
    used = Usage(prompt_tokens=60, completion_tokens=30)
    hop = Hop(tier="small", model_id="m", reason="confidence", usage=Usage(prompt_tokens=60, completion_tokens=1))
    kafka.answer = answering(usage=used, path=[hop], hops=2)
    _, text = file.create("acme", tokens_per_min=100)
    with gateway_on(keyed) as gateway:
        ask(gateway, text)  # 151 tokens: the bucket is 51 below empty
        with pytest.raises(RateLimitError) as refused:
            eventually(lambda: not ask(gateway, text), "the tokens are counted", 10)
        assert refused.value.type == "tokens"
        assert 20 <= int(refused.value.response.headers["retry-after"]) <= 32


def test_a_debt_of_tokens_is_kept_until_it_is_paid(
    kafka: MemoryKafka, keyed: Config, file: KeyFile, redis_server: RedisServer
) -> None:
    kafka.answer = answering(usage=Usage(prompt_tokens=29_000, completion_tokens=1_000))
    key, text = file.create("acme", tokens_per_min=100)
    bucket = f"llm:gateway:{{{key.id}}}:tokens"
    with gateway_on(keyed) as gateway:
        ask(gateway, text)
        eventually(lambda: redis_server.client().exists(bucket), "the tokens are counted", 10)
    assert redis_server.client().ttl(bucket) == pytest.approx(300 * 60, abs=30)


def test_answers_given_again_use_no_tokens(kafka: MemoryKafka, keyed: Config, file: KeyFile) -> None:
    kafka.answer = answering(usage=Usage(prompt_tokens=600, completion_tokens=300), hops=0)
    _, text = file.create("acme", tokens_per_min=100)
    with gateway_on(keyed) as gateway:
        for _ in range(3):
            ask(gateway, text)


def test_what_is_spent_ends_with_the_day_or_when_the_limit_is_raised(
    kafka: MemoryKafka, keyed: Config, file: KeyFile, redis_server: RedisServer
) -> None:
    kafka.answer = answering(cost=0.6)
    key, text = file.create("acme", usd_per_day=1.0, usd_per_month=20.0)
    spent = f"llm:gateway:{{{key.id}}}:{datetime.now(UTC):%Y-%m-%d}"
    with gateway_on(keyed) as gateway:
        for total in (0.6, 1.2):
            ask(gateway, text)
            eventually(lambda total=total: float(redis_server.client().get(spent) or 0) == total, f"{total} spent", 10)
        with pytest.raises(RateLimitError) as refused:
            ask(gateway, text)
        assert (refused.value.code, refused.value.response.headers["x-should-retry"]) == ("insufficient_quota", "false")
        assert 0 < int(refused.value.response.headers["retry-after"]) <= 86_400
        assert redis_server.client().ttl(spent) > 86_400
        file.change(key.id, usd_per_day=5.0)
        eventually(lambda: _answers(gateway, text), "the raised limit holds", 10)


def test_a_call_whose_caller_leaves_is_charged_what_it_cost(
    kafka: MemoryKafka, keyed: Config, file: KeyFile, redis_server: RedisServer
) -> None:
    kafka.answer = silence
    key, text = file.create("acme", usd_per_day=5.0)
    with gateway_on(keyed) as gateway:
        with pytest.raises(APITimeoutError):
            client(gateway, text).chat.completions.create(model="auto", messages=HELLO, timeout=0.3)
        eventually(lambda: kafka.cancelled, "the request is taken back", 10)
        [(tenant, request_id)] = kafka.cancelled
        error = ReplyError(code=ErrorCode.CANCELLED, message="taken back", retryable=False)
        kafka.reply(make_reply(request_id=request_id, tenant=tenant, text="", error=error, cost=0.25))
        spent = f"llm:gateway:{{{key.id}}}:{datetime.now(UTC):%Y-%m-%d}"
        eventually(lambda: float(redis_server.client().get(spent) or 0) == 0.25, "it is charged", 10)


def test_while_redis_is_away_only_keys_without_limits_are_served(
    kafka: MemoryKafka, keyed: Config, file: KeyFile, redis_server: RedisServer
) -> None:
    (_, limited), (_, free) = file.create("acme", usd_per_day=1.0), file.create("ops")
    redis_server.freeze()
    with gateway_on(changed(keyed, {"redis": {"timeout_ms": 50}})) as gateway:
        with pytest.raises(APIStatusError) as refused:
            ask(gateway, limited)
        assert (refused.value.status_code, refused.value.code) == (503, "limits_unavailable")
        ask(gateway, free)
    trusting = changed(keyed, {"redis": {"timeout_ms": 50}, "gateway": {"allow_uncounted": True}})
    with gateway_on(trusting) as gateway:
        ask(gateway, limited)
        eventually(
            lambda: gateway.counted("forebay_gateway_uncounted_total", what="settle"), "what is not counted is told", 10
        )


def test_without_keys_nobody_else_can_reach_it(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host: 0\.0\.0\.0 can be reached from elsewhere"):
        serve(changed(config, {"gateway": {"host": "0.0.0.0"}}))


def test_without_keys_a_page_of_another_site_gets_nothing(gateway: Gateway, kafka: MemoryKafka) -> None:
    body = {"model": "auto", "messages": HELLO}
    rebound = httpx.post(f"{gateway.url}/chat/completions", json=body, headers={"host": "evil.example:8090"})
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "no_keys")
    for headers in ({"content-type": "text/plain"}, {}):  # what a page may send elsewhere without asking first
        simple = httpx.post(f"{gateway.url}/chat/completions", content=json.dumps(body), headers=headers)
        assert (simple.status_code, simple.json()["error"]["code"]) == (400, "invalid_type")
    assert kafka.sent == []


def test_keys_are_made_changed_and_revoked_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka: MemoryKafka, keyed: Config
) -> None:
    monkeypatch.setenv("FOREBAY_GATEWAY__KEY_FILE", str(tmp_path / "keys.json"))
    monkeypatch.setenv("FOREBAY_REDIS__URL", keyed.redis.url.get_secret_value())

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, ["keys", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    text = run("create", "--tenant", "acme", "--note", "shop", "--requests-per-min", "60", "--usd-per-day", "2").strip()
    key_id = text.split("_")[1]
    kafka.answer = answering(cost=0.5)
    with gateway_on(keyed) as gateway:
        ask(gateway, text)
        eventually(lambda: "$0.500 of $2.00" in run("list"), "what it spent is listed", 10)
        assert "acme: shop" in run("list")
        assert "requests_per_min none" in run("set", key_id, "--requests-per-min", "0")
        run("create", "--tenant", "rival")
        [line] = [line for line in run("list").splitlines() if "rival" in line]
        assert "$" not in line, "nobody counts what a key without limits has spent"
        assert "is revoked" in run("revoke", key_id)
        eventually(lambda: not _answers(gateway, text), "it is revoked", 10)
    assert CliRunner().invoke(command, ["keys", "revoke", "nobody"]).exit_code != 0


def _answers(gateway: Gateway, key: str) -> bool:
    try:
        return bool(ask(gateway, key))
    except APIStatusError:
        return False
