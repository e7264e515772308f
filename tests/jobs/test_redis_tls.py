"""A Redis server that itself speaks TLS, asks callers for a certificate, and knows one user: whoever is none finds it
away, and goes on without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from forebay_gateway.store import connect
from forebay_jobs.caches.erasing import Eraser
from forebay_jobs.caches.redis_store import RedisStore
from forebay_ops.local.effective import free_ports
from forebay_ops.local.probes import redis_answers
from forebay_ops.local.servers import REDIS_RIGHTS
from forebay_schemas.config import Config
from forebay_schemas.section import TlsConfig
from pydantic import SecretStr

from tests.authority import Authority
from tests.jobs.answer_store import REQUEST, Store
from tests.jobs.doubles import configured, metrics
from tests.redis_server import RedisServer, redis_binary_with_tls

PASSWORD = "canary"


class TlsServer(RedisServer):
    """With the users that the docs name, and one who looks into it through its socket file."""

    def __init__(self, binary: Path, folder: Path, authority: Authority) -> None:
        [self._port] = free_ports(1)
        self._tls = TlsConfig(ca_file=authority.ca_file, certificate_file=authority.signed("job"))
        certificate, ca = str(authority.signed("server")), str(authority.ca_file)
        files = ("--tls-cert-file", certificate, "--tls-key-file", certificate, "--tls-ca-cert-file", ca)
        forebay = ("--user", "forebay", "on", f">{PASSWORD}", "~llm:*", *REDIS_RIGHTS.split())
        users = ("--user", "default", "off", *forebay, "--user", "admin", "on", ">admin", "~*", "+@all")
        super().__init__(binary, folder, "--tls-port", str(self._port), "--tls-auth-clients", "yes", *files, *users)

    def client(self) -> Any:
        return redis.Redis.from_url(self.url, username="admin", password="admin")

    def config(self, **settings: Any) -> Config:
        url = SecretStr(f"rediss://localhost:{self._port}/0")
        given = {"user": "forebay", "password": SecretStr(PASSWORD), "tls": self._tls, "timeout_ms": 10_000}
        return configured(redis={"url": url, **given, **settings})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[TlsServer]:
    server = TlsServer(redis_binary_with_tls(), tmp_path_factory.mktemp("r"), authority)
    yield server
    server.kill()


def test_answers_are_kept_given_and_forgotten(server: TlsServer) -> None:
    answers = Store(server)
    kept = answers.fill(REQUEST, tenant="acme")
    found = answers.found(REQUEST)
    assert found is not None
    assert found.text == kept.text
    assert Eraser(RedisStore(server.config(), metrics()), "acme", None).erase(lambda _: None)["answers"] == 1
    assert answers.found(REQUEST) is None
    assert (answers.errors(), answers.up()) == (0, 1)
    assert redis_answers(server.config())


async def test_the_gateway_reaches_it_too(server: TlsServer) -> None:
    async with connect(server.config()) as store:
        assert await store.set("llm:gateway:met", "yes", ex=1)


@pytest.mark.parametrize("wrong", ["password", "user", "authority", "certificate", "no TLS"])
def test_whoever_is_not_known_or_does_not_know_it_goes_on_without_it(
    server: TlsServer, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    other, own = Authority(tmp_path / "other"), authority.signed("job")
    url = server.config().redis.url.get_secret_value()
    settings: dict[str, Any] = {
        "password": {"password": SecretStr("guessed")},
        "user": {"user": None, "password": None},
        "authority": {"tls": TlsConfig(ca_file=other.ca_file, certificate_file=own)},
        "certificate": {"tls": TlsConfig(ca_file=authority.ca_file, certificate_file=other.signed("job"))},
        "no TLS": {"tls": TlsConfig(), "url": SecretStr(url.replace("rediss://", "redis://"))},
    }
    answers = Store(server, **settings[wrong])
    looked = answers.look(REQUEST)
    assert (looked.answer, looked.epochs) == (None, None)
    assert (answers.errors(), answers.up()) == (1, 0)
    assert not redis_answers(server.config(**settings[wrong]))
