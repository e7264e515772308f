"""How the job reaches Redis and Qdrant where they ask who is there and speak TLS."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from forebay_gateway.store import connect
from forebay_jobs.caches.erasing import Eraser
from forebay_jobs.caches.prefixes import PrefixRates
from forebay_jobs.caches.questions import qdrant_client
from forebay_jobs.caches.redis_store import RedisStore
from forebay_ops.local.probes import http_answers, redis_answers
from forebay_ops.local.servers import REDIS_RIGHTS
from forebay_schemas.config import Config
from forebay_schemas.section import TlsConfig
from forebay_schemas.sections import SemanticConfig
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from tests.authority import Authority
from tests.jobs.answer_store import REQUEST, Store
from tests.jobs.doubles import configured, metrics
from tests.jobs.test_namespaces import Process
from tests.redis_server import RedisServer
from tests.tls_front import TlsFront

PASSWORD = "canary"
DOCS = Path(__file__).parents[2] / "docs" / "security.md"


class GuardedServer(RedisServer):
    """The server, reached as a user with the rights that the docs name."""

    def __init__(self, server: RedisServer) -> None:
        self.url = server.url
        server.client().execute_command(
            "ACL", "SETUSER", "forebay", "reset", "on", f">{PASSWORD}", "~llm:*", *REDIS_RIGHTS.split()
        )

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, username="forebay", password=PASSWORD)

    def config(self, **settings: object) -> Config:
        return super().config(user="forebay", password=SecretStr(PASSWORD), **settings)


@pytest.fixture
def guarded(redis_server: RedisServer) -> GuardedServer:
    return GuardedServer(redis_server)


def test_all_that_the_job_asks_of_redis_is_allowed_to_its_user(guarded: GuardedServer) -> None:
    answers = Store(guarded)
    answers.fill(REQUEST)
    assert answers.found(REQUEST) is not None
    digest = answers.answer_key(REQUEST).rpartition(":")[2]
    assert answers.store.doubt(digest, wrong=1) is True
    answers.store.trust(digest)
    assert answers.store.worth([digest]) != [None]
    answers.invalidate(source="prices")
    assert answers.found(REQUEST) is None
    assert answers.memory() > 0
    process = Process(guarded)
    process.learn()
    store = RedisStore(guarded.config(), metrics())
    PrefixRates(guarded.config(), store).spreads([])
    assert Eraser(store, "acme", None).erase(lambda _: None)["learned"] == 1
    assert answers.errors() == 0
    assert redis_answers(guarded.config())


@pytest.mark.parametrize("command", [("FLUSHALL",), ("GET", "another:key"), ("CONFIG", "GET", "*"), ("ACL", "LIST")])
def test_nothing_else_is(guarded: GuardedServer, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        guarded.client().execute_command(*command)


def test_a_wrong_password_finds_redis_away(guarded: GuardedServer) -> None:
    wrong = configured(redis={"url": SecretStr(guarded.url), "user": "forebay", "password": SecretStr("guessed")})
    assert RedisStore(wrong, metrics()).call(lambda client: client.ping(), None) is None


def test_the_docs_name_these_rights() -> None:
    assert f"user forebay on >PASSWORD ~llm:* {REDIS_RIGHTS}" in DOCS.read_text()


async def test_redis_is_reached_by_tls_that_a_known_authority_signed_for_its_name(
    guarded: GuardedServer, tmp_path: Path
) -> None:
    authority, other = (Authority(tmp_path / name) for name in ("a", "b"))

    async def pinged(context: ssl.SSLContext, options: str = "") -> bool:
        front = TlsFront(context, guarded.url.removeprefix("unix://"))
        settings = {"user": "forebay", "password": SecretStr(PASSWORD), "tls": TlsConfig(ca_file=authority.ca_file)}
        url = SecretStr(f"rediss://localhost:{front.port}/0{options}")
        config = configured(redis={"url": url, "timeout_ms": 10_000, **settings})
        try:
            in_job = RedisStore(config, metrics()).call(lambda client: bool(client.ping()), False)
            assert redis_answers(config) is in_job is await _pinged_by_gateway(config)
        finally:
            front.close()
        return in_job

    assert await pinged(authority.server_context())
    assert not await pinged(other.server_context())
    assert not await pinged(authority.server_context("redis.example"))
    assert await pinged(authority.server_context("redis.example"), "?ssl_check_hostname=no")
    assert await pinged(other.server_context("redis.example"), "?ssl_cert_reqs=none")


async def _pinged_by_gateway(config: Config) -> bool:
    try:
        async with connect(config) as store:
            return bool(await store.ping())
    except redis.RedisError:
        return False


async def test_job_and_gateway_show_a_certificate_where_one_is_asked_for(
    guarded: GuardedServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "a")
    context = authority.server_context()
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    front = TlsFront(context, guarded.url.removeprefix("unix://"))
    tls = TlsConfig(ca_file=authority.ca_file, certificate_file=authority.signed("job"))
    access = {"user": "forebay", "password": SecretStr(PASSWORD), "tls": tls, "timeout_ms": 10_000}
    config = configured(redis={"url": SecretStr(f"rediss://localhost:{front.port}/0"), **access})
    try:
        assert RedisStore(config, metrics()).call(lambda client: bool(client.ping()), False)
        assert await _pinged_by_gateway(config)
        own = SecretStr(f"rediss://forebay:{PASSWORD}@localhost:{front.port}/0")
        without_one = configured(gateway={"redis_url": own})
        assert not await _pinged_by_gateway(without_one)
        assert await _pinged_by_gateway(config.model_copy(update={"gateway": without_one.gateway}))
    finally:
        front.close()


class _Qdrant(BaseHTTPRequestHandler):
    """Says that there is every collection, to whoever has the key."""

    def do_GET(self) -> None:
        known = self.headers.get("api-key") == PASSWORD
        body = b'{"result": {"exists": true}, "status": "ok", "time": 0}'
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def qdrant(authority: Authority) -> Iterator[str]:
    server = ThreadingHTTPServer(("localhost", 0), _Qdrant)
    server.socket = authority.server_context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_qdrant_is_shown_the_key_by_tls_that_a_known_authority_signed(
    qdrant: str, authority: Authority, tmp_path: Path
) -> None:
    def asked(**settings: object) -> bool:
        client = qdrant_client(SemanticConfig.model_validate({"url": qdrant, **settings}), check_compatibility=False)
        try:
            return client.collection_exists("forebay")
        finally:
            client.close()

    trusted = {"ca_file": authority.ca_file}
    assert asked(api_key=PASSWORD, tls=trusted)
    with pytest.raises(Exception, match="401"):
        asked(api_key="guessed", tls=trusted)
    other = TlsConfig(ca_file=Authority(tmp_path / "other").ca_file)
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        asked(api_key=PASSWORD, tls=other.model_dump())
    assert http_answers(qdrant, TlsConfig(ca_file=authority.ca_file))
    assert not http_answers(qdrant, other)
