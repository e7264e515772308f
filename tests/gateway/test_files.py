"""Files with OpenAI's client: uploaded to one copy of the gateway, and there for all of them."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from forebay_gateway.keys import KeyFile
from forebay_schemas.config import Config, changed
from openai import APIStatusError, BadRequestError, NotFoundError, OpenAI

from tests.gateway.running import Gateway, gateway_on
from tests.producers.doubles import MemoryKafka
from tests.redis_server import RedisServer

LINES = b'{"custom_id": "one"}\n' * 40_000


def client_of(gateway: Gateway, key: str = "none") -> OpenAI:
    return OpenAI(base_url=gateway.url, api_key=key, max_retries=0)


def upload(openai: OpenAI, data: bytes = LINES, name: str = "rows.jsonl", **given: Any) -> Any:
    return openai.files.create(file=(name, data), purpose="batch", **given)


def test_a_file_is_there_for_all_copies(copies: list[Gateway]) -> None:
    one, other = map(client_of, copies)
    file = upload(one)
    assert (file.bytes, file.filename, file.purpose, file.status) == (len(LINES), "rows.jsonl", "batch", "processed")
    assert file.expires_at == file.created_at + 7 * 86_400
    assert other.files.retrieve(file.id) == file
    assert other.files.content(file.id).read() == LINES
    assert other.files.delete(file.id).deleted
    with pytest.raises(NotFoundError):
        one.files.retrieve(file.id)
    with pytest.raises(NotFoundError):
        one.files.content(file.id)
    assert list(one.files.list()) == []


def test_files_are_listed_in_parts(copies: list[Gateway]) -> None:
    openai = client_of(copies[0])
    ids = [upload(openai, b"{}", f"{number}.jsonl").id for number in range(5)]
    assert sorted(file.id for file in openai.files.list(limit=2)) == sorted(ids)
    assert openai.files.list(limit=2).has_more
    assert [file.id for file in openai.files.list(order="asc")] == [file.id for file in openai.files.list()][::-1]
    assert list(openai.files.list(purpose="batch_output")) == []
    with pytest.raises(BadRequestError, match="after"):
        openai.files.list(after="file-unknown")


def test_a_file_goes_when_it_is_told_to(copies: list[Gateway], redis_server: RedisServer) -> None:
    file = upload(client_of(copies[0]), expires_after={"anchor": "created_at", "seconds": 3_600})
    assert file.expires_at == file.created_at + 3_600
    names = redis_server.client().keys("*:file:*") + redis_server.client().keys("*:contents:*")
    assert len(names) == 2
    assert all(0 < redis_server.client().ttl(name) <= 3_600 for name in names)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({"expires_after": {"anchor": "created_at", "seconds": 60}}, "expires_after[seconds]"),
        ({"extra_body": {"colour": "blue"}}, "colour"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_named(copies: list[Gateway], given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        client_of(copies[0]).files.create(**{"file": ("rows.jsonl", b"{}"), "purpose": "batch", **given})
    assert refused.value.param == param


def test_a_file_that_is_too_large_is_refused(kafka: MemoryKafka, counted: Config, redis_server: RedisServer) -> None:
    with gateway_on(changed(counted, {"gateway": {"max_file_bytes": 500_000}})) as gateway:
        for size in (500_001, 5_000_000):
            with pytest.raises(APIStatusError, match=r"gateway\.max_file_bytes") as refused:
                upload(client_of(gateway), b"x" * size)
            assert (refused.value.status_code, refused.value.param) == (413, "file")

        def in_chunks() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
            yield from (b"x" * 100_000 for _ in range(30))

        kind = {"content-type": "multipart/form-data; boundary=b"}
        assert httpx.post(f"{gateway.url}/files", content=in_chunks(), headers=kind).status_code == 413
        assert upload(client_of(gateway), b"x" * 500_000).bytes == 500_000
    assert len(redis_server.client().keys("*:contents:*")) == 1


def test_a_tenant_has_so_much_and_no_more(kafka: MemoryKafka, counted: Config) -> None:
    with gateway_on(changed(counted, {"gateway": {"tenant_file_bytes": 1_000}})) as gateway:
        openai = client_of(gateway)
        first = upload(openai, b"x" * 900)
        with pytest.raises(BadRequestError, match="delete some"):
            upload(openai, b"x" * 101)
        openai.files.delete(first.id)
        upload(openai, b"x" * 101)


def test_a_tenant_sees_its_own_files_alone(kafka: MemoryKafka, counted: Config, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    texts = [keys.create(tenant)[1] for tenant in ("acme", "rival")]
    with gateway_on(changed(counted, {"gateway": {"key_file": tmp_path / "keys.json"}})) as gateway:
        acme, rival = (client_of(gateway, text) for text in texts)
        file = upload(acme)
        assert list(rival.files.list()) == []
        for call in (rival.files.retrieve, rival.files.content, rival.files.delete):
            with pytest.raises(NotFoundError):
                call(file.id)
        assert acme.files.content(file.id).read() == LINES


def test_a_file_whose_contents_redis_dropped_says_so(copies: list[Gateway], redis_server: RedisServer) -> None:
    openai = client_of(copies[0])
    file = upload(openai)
    redis_server.client().delete(*redis_server.client().keys("*:contents:*"))
    with pytest.raises(NotFoundError, match=r"gateway\.redis_url"):
        openai.files.content(file.id)


def test_without_redis_files_say_come_again_and_all_else_goes_on(
    kafka: MemoryKafka, counted: Config, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    with gateway_on(changed(counted, {"redis": {"timeout_ms": 50}})) as gateway:
        with pytest.raises(APIStatusError) as refused:
            client_of(gateway).files.list()
        assert (refused.value.status_code, refused.value.code) == (503, "unavailable")
        assert client_of(gateway).models.list()
