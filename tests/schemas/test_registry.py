"""With a Schema Registry configured, values carry its ids; what cannot be resolved is refused, never fatal."""

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import fastavro
import msgspec
import pytest
from forebay_schemas.codec import RECORDS, Codec, newest
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError, ErrorCode, ForebayError, RecordError
from forebay_schemas.records import Record, Reply, Request
from forebay_schemas.registry import RegistryError, RegistryFraming, codec_for
from forebay_schemas.sections import RegistryConfig
from pydantic import SecretStr

from tests.builders import make_request

from .golden_files import EXAMPLES
from .registry_double import RegistryDouble, running_registry


def _config(url: str | None, user: str | None = None, password: str | None = None) -> Config:
    secret = None if password is None else SecretStr(password)
    return load_config().model_copy(update={"registry": RegistryConfig(url=url, user=user, password=secret)})


def _unresolved(codec: Codec, data: bytes, record: type[Record] = Request) -> str:
    with pytest.raises(RecordError) as caught:
        codec.decode(data, record)
    assert caught.value.code is ErrorCode.UNKNOWN_SCHEMA
    return str(caught.value)


def test_without_a_registry_values_are_single_object_encoded() -> None:
    assert codec_for(_config(None)).encode(make_request()) == Codec().encode(make_request())


def test_the_registrys_client_is_loaded_only_where_one_is_configured() -> None:
    code = (
        "import sys; from forebay_schemas.config import load_config; from forebay_schemas.registry import codec_for;"
        " codec_for(load_config()); sys.exit('confluent_kafka.schema_registry' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_registry_without_its_client_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)

    with pytest.raises(ConfigError, match=r"install forebay\[registry\], or leave registry\.url out"):
        codec_for(_config("http://localhost:1"))


class TestWithRegistry:
    """Against the registry's own client, which is an extra."""

    @pytest.fixture(autouse=True)
    def _client_installed(self) -> None:
        pytest.importorskip("confluent_kafka.schema_registry", reason="forebay[registry] is not installed")

    @pytest.fixture
    def registry(self) -> Iterator[RegistryDouble]:
        with running_registry() as double:
            yield double

    def test_every_record_comes_back_equal(self, registry: RegistryDouble) -> None:
        codec = codec_for(_config(registry.url))

        for example in EXAMPLES:
            assert codec.decode(codec.encode(example), type(example)) == example

    def test_a_value_begins_with_zero_and_the_id_in_four_bytes(self, registry: RegistryDouble) -> None:
        registry.schemas = ['"string"'] * 0x0102  # others' schemas, so that our ids need two bytes
        data = codec_for(_config(registry.url)).encode(make_request())

        schema_id = registry.subjects["forebay.Request"][0]
        assert schema_id > 0xFF
        assert data[:5] == b"\0" + schema_id.to_bytes(4, "big")
        assert data[5:] == Codec().encode(make_request())[10:]

    def test_schemas_are_registered_once_under_the_records_name(self, registry: RegistryDouble) -> None:
        codec_for(_config(registry.url))
        schemas = list(registry.schemas)
        registry.asked.clear()
        codec_for(_config(registry.url))

        assert sorted(registry.subjects) == sorted(f"forebay.{record.__name__}" for record in RECORDS)
        assert registry.schemas == schemas
        assert not any(call.endswith("/versions") for call in registry.asked)

    def test_a_registry_that_may_only_be_read_is_enough_once_schemas_are_there(self, registry: RegistryDouble) -> None:
        registry.read_only = True
        with pytest.raises(RegistryError, match=r"version 1 of forebay\.Request can be neither looked up nor reg"):
            codec_for(_config(registry.url))

        registry.read_only = False
        codec_for(_config(registry.url))
        registry.read_only = True
        codec = codec_for(_config(registry.url))
        assert codec.decode(codec.encode(make_request()), Request) == make_request()

    def test_known_ids_are_never_asked_for(self, registry: RegistryDouble) -> None:
        codec = codec_for(_config(registry.url))
        data = codec.encode(make_request())
        registry.asked.clear()
        registry.failing = True

        assert codec.decode(data, Request) == make_request()
        assert registry.asked == []

    def test_a_newer_writers_schema_is_fetched_once(self, registry: RegistryDouble) -> None:
        codec = codec_for(_config(registry.url))
        data = _written_by_a_newer_version(registry)
        registry.asked.clear()

        assert [codec.decode(data, Request) for _ in range(3)] == [make_request()] * 3
        assert len(registry.asked) == 1

    def test_credentials_are_sent(self, registry: RegistryDouble) -> None:
        codec_for(_config(registry.url, user="ada", password="geheim"))

        assert registry.credentials == {"Basic YWRhOmdlaGVpbQ=="}

    @pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\0", b"\xc3\x01" + b"\0" * 20, b"\x01\0\0\0\x01"])
    def test_what_has_no_magic_byte_and_id_is_not_avro(self, registry: RegistryDouble, data: bytes) -> None:
        with pytest.raises(RecordError, match="does not begin with a zero byte and a schema id") as caught:
            codec_for(_config(registry.url)).decode(data, Request)

        assert caught.value.code is ErrorCode.NOT_AVRO

    @pytest.mark.parametrize(
        ("schema", "reason"),
        [
            ('"string"', "no Avro record"),
            ("{}", "no Avro record"),
            ("syntax = 'proto3';", "no Avro record"),
            ('{"type": "record", "name": "Request", "fields": [{"name": "a", "type": "else.Where"}]}', "no Avro rec"),
            ('{"type": "record", "name": "Order", "fields": []}', "is Order; write forebay.Request to this topic"),
        ],
    )
    def test_another_schema_is_refused(self, registry: RegistryDouble, schema: str, reason: str) -> None:
        codec = codec_for(_config(registry.url))
        schema_id = registry.add("other", schema)

        assert reason in _unresolved(codec, b"\0" + schema_id.to_bytes(4, "big"))

    def test_another_records_id_is_refused(self, registry: RegistryDouble) -> None:
        codec = codec_for(_config(registry.url))

        assert "is forebay.Request; write forebay.Reply" in _unresolved(codec, codec.encode(make_request()), Reply)

    def test_a_newer_version_that_changed_incompatibly_is_malformed(self, registry: RegistryDouble) -> None:
        codec = codec_for(_config(registry.url))
        schema_id = registry.add("x", '{"type": "record", "name": "forebay.Request", "fields": []}')

        with pytest.raises(RecordError, match="the value is no Request") as caught:
            codec.decode(b"\0" + schema_id.to_bytes(4, "big"), Request)
        assert caught.value.code is ErrorCode.MALFORMED
        assert len(str(caught.value)) < 300

    def test_an_id_that_nobody_has_is_asked_for_again_only_after_a_while(self, registry: RegistryDouble) -> None:
        clock = _Clock()
        codec = _codec(registry, clock)
        data = b"\0\0\0\x03\xe8"

        assert all("1000 cannot be resolved (the registry does not have it)" in _unresolved(codec, data) for _ in "123")
        assert len(registry.asked) == 1

        registry.schemas += [""] * (999 - len(registry.schemas))
        data = _written_by_a_newer_version(registry)
        assert "does not have it" in _unresolved(codec, data)
        clock.now += 60
        assert codec.decode(data, Request) == make_request()

    def test_a_registry_that_fails_later_is_left_alone_and_found_again(self, registry: RegistryDouble) -> None:
        clock = _Clock()
        codec = _codec(registry, clock)
        data = _written_by_a_newer_version(registry)
        registry.failing = True

        assert "the registry does not answer: the store is gone" in _unresolved(codec, data)
        calls = len(registry.asked)
        assert "did not answer a moment ago" in _unresolved(codec, data)
        assert "did not answer a moment ago" in _unresolved(codec, b"\0\0\0\x03\xe8")
        assert len(registry.asked) == calls

        registry.failing = False
        clock.now += 60
        assert codec.decode(data, Request) == make_request()

    def test_a_registry_that_is_away_at_the_start_is_a_clear_error_to_retry(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
            with pytest.raises(RegistryError, match="check that the registry runs and what this user may do, then"):
                codec_for(_config(f"http://127.0.0.1:{free.getsockname()[1]}"))
        assert issubclass(RegistryError, ForebayError)

    def test_an_address_that_is_none_is_a_matter_of_configuration(self) -> None:
        with pytest.raises(ConfigError, match=r"registry\.url: registry:8081 cannot be used .* give http://"):
            codec_for(_config("registry:8081"))


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _codec(registry: RegistryDouble, clock: _Clock) -> Codec:
    from confluent_kafka.schema_registry import SchemaRegistryClient

    codec = Codec(RegistryFraming(SchemaRegistryClient({"url": registry.url, "max.retries": 0}), clock))
    registry.asked.clear()
    return codec


def _written_by_a_newer_version(registry: RegistryDouble) -> bytes:
    """``make_request()`` with a field that this side does not know."""
    document = json.loads(newest("Request").text)
    document["fields"].append({"name": "region", "type": "string", "default": ""})
    schema_id = registry.add("forebay.Request", json.dumps(document))
    body = io.BytesIO()
    fastavro.schemaless_writer(
        body, fastavro.parse_schema(document), msgspec.to_builtins(make_request()) | {"region": "eu"}
    )
    return b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()
