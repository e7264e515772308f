"""`forebay forget` looks into the Redis of the job and into the gateways' own, and says what it cannot tell apart."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_gateway.batches.files import Files
from forebay_gateway.repeats import Claim, Repeats
from forebay_gateway.store import connect
from forebay_ops import forgetting
from forebay_ops.cli.forget import forget_
from forebay_ops.forgetting import Kept
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from forebay_schemas.metrics import GatewayMetrics
from prometheus_client import CollectorRegistry

from tests.builders import make_reply, make_request
from tests.jobs.answer_store import Store
from tests.redis_server import RedisServer, redis_binary


@pytest.fixture(scope="module")
def of_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The gateways' own."""
    server = RedisServer(redis_binary(), tmp_path_factory.mktemp("g"))
    yield server
    server.kill()


@pytest.fixture
def config(redis_server: RedisServer, of_gateway: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of an installation that keeps an answer to each of two users, a file, and both answers for repeats."""
    file = tmp_path / "forebay.toml"
    file.write_text(
        f'[redis]\nurl = "{redis_server.url}"\ntimeout_ms = 10000\n[gateway]\nredis_url = "{of_gateway.url}"\n'
        f'[ledger]\nfolder = "{tmp_path / "ledger"}"\n'
    )
    answers = Store(redis_server)
    for user in ("ada", "bob"):
        answers.fill(make_request(f"What asks {user}?", tenant="acme", user=user), tenant="acme", user=user)
    of_gateway.client().flushall()
    asyncio.run(_fill_gateway(load_config(file)))
    acknowledged = Kept("job, index and what was learned", 2, 0)
    monkeypatch.setattr(forgetting, "_by_job", lambda *_: acknowledged)
    return file


async def _fill_gateway(config: Config) -> None:
    store, read = connect(config), iter([b"{}", b""])

    async def piece(size: int) -> bytes:
        return next(read)

    await Files(store, "llm:gateway", config.gateway).upload("acme", "rows.jsonl", piece, "file-1", None)
    repeats = Repeats(store, "llm:gateway", GatewayMetrics(CollectorRegistry()))
    for user in ("ada", "bob"):
        claim = await repeats.claim("acme", f"of {user}", b"{}")
        assert isinstance(claim, Claim)
        await claim.settle(make_reply(tenant="acme", user=user))
    await store.aclose()


def forget(config: Path, *options: str) -> Result:
    arguments = ["--tenant", "acme", "--yes", *options]
    return CliRunner().invoke(forget_, arguments, env={"FOREBAY_CONFIG": str(config)}, catch_exceptions=False)


def told(result: Result, exit_code: int = 0) -> dict[str, list[str]]:
    """The rows of the table."""
    assert result.exit_code == exit_code, result.output
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(("gateway,", "redis,"))]
    return {" ".join(word for word in row if not word.isdigit()): [one for one in row if one.isdigit()] for row in rows}


KEPT = {
    "gateway, contents of files": 1,
    "gateway, files": 1,
    "gateway, kept answers": 2,
    "gateway, lists": 1,
    "redis, answers": 2,
    "redis, epochs": 1,
    "redis, request ids": 2,
}


def test_before_anything_goes_it_is_shown_what_is_kept(
    config: Path, redis_server: RedisServer, of_gateway: RedisServer
) -> None:
    assert told(forget(config, "--dry-run")) == {kind: [str(count)] for kind, count in KEPT.items()}
    assert told(forget(config, "--dry-run", "--user", "ada")) == {
        "gateway, kept answers": ["1"],
        "redis, answers": ["1"],
    }
    assert len(of_gateway.client().keys("*")) == 5
    assert len(redis_server.client().keys("*:answer:*")) == 2


def test_of_a_tenant_all_goes_in_both(config: Path, redis_server: RedisServer, of_gateway: RedisServer) -> None:
    done = forget(config)
    assert told(done) == {kind: [str(count), "0"] for kind, count in KEPT.items()}
    assert done.stdout.splitlines()[-1].startswith("caches, index, ledger and gateway keep nothing of the tenant acme;")
    assert of_gateway.client().keys("*") == []
    assert redis_server.client().keys("*") == [b"llm:3:epochs:"], "everybody's"


def test_of_a_user_it_is_said_what_cannot_be_told_apart(config: Path, of_gateway: RedisServer) -> None:
    done = forget(config, "--user", "ada")
    assert told(done, exit_code=3) == {"gateway, kept answers": ["1", "0"], "redis, answers": ["1", "0"]}
    assert "1 files and batches of the tenant acme stay at the gateway" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("caches, index and ledger keep nothing of the user ada")
    assert len(of_gateway.client().keys("*")) == 4


def test_no_web_framework_is_needed() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import forebay_ops.cli.forget"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_the_gateways_redis_does_not_tell_is_not_taken_for_nothing(config: Path, of_gateway: RedisServer) -> None:
    of_gateway.kill()
    try:
        with pytest.raises(ForebayError, match=r"gateway\.redis_url: Redis does not answer"):
            forget(config)
    finally:
        of_gateway.start()
