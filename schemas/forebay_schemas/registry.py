"""Confluent framing: which schema wrote a value is said by an id that a Schema Registry gave out.

A value begins with a zero byte and the id, 4 bytes, big-endian. Subjects are named after the record alone
(``forebay.Request``, Confluent's RecordNameStrategy): the same record travels on many topics (a request topic of
each tenant, a task topic of each tier), and has one history on all of them.
"""

import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec

from .codec import RECORDS, Codec, Schema, history
from .config import Config
from .errors import ConfigError, ErrorCode, ForebayError, RecordError

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

_HEADER = struct.Struct(">bI")
_MAGIC = 0
_TIMEOUT_S = 2.0
"""Of one call; a decode that meets a new id waits for it, and everything behind it in the partition too."""
_ASK_AGAIN_AFTER_S = 10.0
"""How long an id that could not be resolved is refused without asking, or a registry that is away left alone."""
_MAX_REFUSED = 10_000
_NOT_FOUND = 404


class RegistryError(ForebayError):
    """The registry does not answer or does not take our schemas. Starting again later may work."""


class RegistryFraming:
    """Confluent's wire format. Ids are learned at construction and, for newer writers, when they are first met.

    Safe to share between threads: two that meet the same new id at once both ask for it.
    """

    def __init__(self, client: "SchemaRegistryClient", clock: Callable[[], float] = time.monotonic) -> None:
        """Look up every bundled schema, and register those that the registry does not have.

        Args:
            client: of the registry.
            clock: seconds, never backwards.

        Raises:
            RegistryError: the registry is away, or refuses a schema.
        """
        self._client = client
        self._clock = clock
        self._ids: dict[tuple[str, int], int] = {}
        self._known: dict[int, tuple[str, Any]] = {}
        self._refused: dict[int, tuple[float, str]] = {}
        self._away_until = float("-inf")
        for record in RECORDS:
            for schema in history(record.__name__):
                self._publish(schema)

    def header(self, schema: Schema) -> bytes:
        return _HEADER.pack(_MAGIC, self._ids[schema.record, schema.version])

    def writer_schema(self, data: bytes, record: str) -> tuple[Any, int]:
        if len(data) < _HEADER.size or data[0] != _MAGIC:
            raise RecordError(
                ErrorCode.NOT_AVRO,
                f"the value of {len(data)} bytes does not begin with a zero byte and a schema id;"
                " encode it with a serializer of the configured Schema Registry",
            )
        _, schema_id = _HEADER.unpack_from(data)
        name, parsed = self._known.get(schema_id) or self._resolve(schema_id)
        if name != f"forebay.{record}":
            raise RecordError(
                ErrorCode.UNKNOWN_SCHEMA, f"the schema id {schema_id} is {name}; write forebay.{record} to this topic"
            )
        return parsed, _HEADER.size

    def _publish(self, schema: Schema) -> None:
        from confluent_kafka.schema_registry import Schema as Document
        from confluent_kafka.schema_registry import SchemaRegistryError

        subject = f"forebay.{schema.record}"
        document = Document(schema.text, "AVRO")
        try:
            try:  # looked up first: in production most services may read the registry and not write it
                schema_id = self._client.lookup_schema(subject, document).schema_id
            except SchemaRegistryError as error:
                if error.http_status_code != _NOT_FOUND:
                    raise
                schema_id = self._client.register_schema(subject, document)
        except Exception as error:  # the client lets through what its HTTP library raises
            raise RegistryError(
                f"registry.url: version {schema.version} of {subject} can be neither looked up nor registered"
                f" ({error}); check that the registry runs and what this user may do, then start again"
            ) from None
        if schema_id is None:
            raise RegistryError(f"registry.url: the registry gave no id for version {schema.version} of {subject}")
        self._ids[schema.record, schema.version] = schema_id
        self._known[schema_id] = subject, schema.parsed

    def _resolve(self, schema_id: int) -> tuple[str, Any]:
        """The name and schema of an id outside the bundled history: a newer writer's, or nobody's."""
        now = self._clock()
        if now < self._away_until:
            raise _unknown(schema_id, "the registry did not answer a moment ago")
        until, reason = self._refused.get(schema_id, (now, ""))
        if now < until:
            raise _unknown(schema_id, reason)
        text = self._fetch(schema_id)
        try:
            parsed: Any = fastavro.parse_schema(msgspec.json.decode(text))
            self._known[schema_id] = parsed["name"], parsed
        except Exception as error:  # whatever lies in the registry under this id
            raise self._refuse(schema_id, f"what the registry has under it is no Avro record ({error})") from None
        return self._known[schema_id]

    def _fetch(self, schema_id: int) -> str:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            return self._client.get_schema(schema_id).schema_str or ""
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise self._refuse(schema_id, "the registry does not have it") from None
            problem = str(error)
        except Exception as error:  # of the client's HTTP library
            problem = str(error)
        self._away_until = self._clock() + _ASK_AGAIN_AFTER_S
        raise _unknown(schema_id, f"the registry does not answer: {problem}")

    def _refuse(self, schema_id: int, reason: str) -> RecordError:
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused[schema_id] = self._clock() + _ASK_AGAIN_AFTER_S, reason
        return _unknown(schema_id, reason)


def codec_for(config: Config) -> Codec:
    """The codec that a configuration asks for: Confluent framing where ``registry.url`` is set.

    Raises:
        ConfigError: the registry is configured and its client is not installed.
        RegistryError: the registry is away, or refuses a schema.
    """
    registry = config.registry
    if registry.url is None:
        return Codec()
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        raise ConfigError(
            f"registry.url is set, but the registry's client cannot be loaded ({error});"
            " install forebay[registry], or leave registry.url out"
        ) from None
    settings: dict[str, Any] = {"url": registry.url, "timeout": _TIMEOUT_S, "max.retries": 1, "retries.wait.ms": 100}
    if registry.user is not None:
        password = registry.password.get_secret_value() if registry.password else ""
        settings["basic.auth.user.info"] = f"{registry.user}:{password}"
    if registry.tls.ca_file is not None:
        settings["ssl.ca.location"] = str(registry.tls.ca_file)
    if registry.tls.certificate_file is not None:
        certificate = str(registry.tls.certificate_file)
        settings["ssl.certificate.location"] = settings["ssl.key.location"] = certificate
    try:
        client = SchemaRegistryClient(settings)
    except ValueError as error:
        raise ConfigError(f"registry.url: {registry.url} cannot be used ({error}); give http:// or https://") from None
    return Codec(RegistryFraming(client))


def _unknown(schema_id: int, reason: str) -> RecordError:
    return RecordError(
        ErrorCode.UNKNOWN_SCHEMA,
        f"the schema id {schema_id} cannot be resolved ({reason[:200]}); register the schema, then send it again",
    )
