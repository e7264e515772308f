"""The topics of an installation as an AsyncAPI 3.0 document: the channels, with the configuration and the schemas.

What topics and headers are for is said in `forebay_schemas.channels` and `topics`, what records are in their Avro
schemas, and how topics are made by `topic_specs`; here it is only put in AsyncAPI's form.
"""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from forebay_schemas.channels import CHANNELS, PARTS, Channel, Part
from forebay_schemas.codec import Schema, file_stem, history
from forebay_schemas.config import Config
from forebay_schemas.records import Lane
from forebay_schemas.topics import HEADERS, MAX_HEADER_BYTES, REQUEST_ID, TopicSpec

from .topics import topic_specs

Document = dict[str, Any]
Placed = tuple[str, str, Channel]
"""A channel of the document: its name, its address, and what it is for."""

_SINGLE_OBJECT = "in single-object encoding: the bytes c3 01, the 8 bytes of `x-fingerprint`, the Avro body"
_CONFLUENT = "in the framing of Confluent's Schema Registry: a zero byte, 4 bytes of the schema's id, the Avro body"
_AVSC = "application/vnd.apache.avro+json;version=1.9.0"
_KAFKA_BINDING = "0.5.0"


def asyncapi(config: Config) -> Document:
    """The document; it refers to the schemas as files of a folder ``avro`` beside it."""
    placed = list(_placed(config))
    specs = {spec.name: spec for spec in topic_specs(config)}
    some_tier = next(iter(config.tiers))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Forebay",
            "version": version("forebay"),
            "description": _description(config),
            "tags": [{"name": str(part), "description": text} for part, text in PARTS.items()],
        },
        "servers": dict(_servers(config)),
        "defaultContentType": "application/vnd.apache.avro",
        "channels": {
            name: _channel(channel, address, specs[address.format(tier=some_tier)], config)
            for name, address, channel in placed
        },
        "operations": dict(_operations(placed)),
        "components": {
            "messageTraits": {channel.name: _trait(channel, config) for channel in CHANNELS},
            "schemas": {
                name: {"type": "string", "maxLength": MAX_HEADER_BYTES, "description": text}
                for name, text in HEADERS.items()
            },
        },
    }


def _description(config: Config) -> str:
    framing = _SINGLE_OBJECT if config.registry.url is None else _CONFLUENT
    return (
        f"A value is one Avro record {framing}.\n"
        "It is written with the oldest version of its schema that holds all that it says, so who reads knows all\n"
        "versions, and resolves them to the newest: fields that are added have defaults.\n"
        f"A request or a reply has at most {config.kafka.max_record_bytes:,} bytes.\n\n"
        "Workers and batches write in transactions: read with the isolation level read_committed.\n\n"
        "An operation names the part that does it as its tag.\n"
        "What a channel does not set, such as its retention, is the brokers' default.\n"
    )


def _placed(config: Config) -> Iterator[Placed]:
    """The channels as they are here; topics that the configuration adds are like the standard ones."""
    topics = config.kafka.topics
    by_name = {channel.name: channel for channel in CHANNELS}
    lanes = {"tier": Lane.INTERACTIVE, "tier_batch": Lane.BATCH}
    for name, channel in by_name.items():
        yield name, topics.tier("{tier}", lanes[name]) if name in lanes else getattr(topics, name), channel
    for topic, bound in config.request_topics.items():
        yield topic, topic, by_name["requests_batch" if bound.lane == Lane.BATCH else "requests"]
    for topic in config.kafka.reply_topics:
        yield topic, topic, by_name["replies"]
    for topic in config.feedback_topics:
        yield topic, topic, by_name["feedback"]


_TEXTS = ("message.timestamp.type",)
"""Settings that are no numbers."""


def _servers(config: Config) -> Iterator[tuple[str, Document]]:
    plain = config.kafka.client().get("security.protocol", "plaintext").lower() == "plaintext"
    for number, host in enumerate(config.kafka.bootstrap.split(","), 1):
        server: Document = {"host": host.strip(), "protocol": "kafka" if plain else "kafka-secure"}
        if config.registry.url is not None:
            registry = {"schemaRegistryUrl": config.registry.url, "schemaRegistryVendor": "confluent"}
            server["bindings"] = {"kafka": {**registry, "bindingVersion": _KAFKA_BINDING}}
        yield f"broker-{number}", server


def _channel(channel: Channel, address: str, spec: TopicSpec, config: Config) -> Document:
    settings = {
        name: value.split(",") if name == "cleanup.policy" else value if name in _TEXTS else int(value)
        for name, value in spec.settings.items()  # as the binding types them
    }
    kafka = {
        "partitions": spec.partitions,
        "replicas": config.kafka.replication_factor,
        "topicConfiguration": settings,
        "bindingVersion": _KAFKA_BINDING,
    }
    document: Document = {"address": address, "summary": channel.summary}
    if "{tier}" in address:
        document["parameters"] = {"tier": {"enum": list(config.tiers)}}
    document["messages"] = {
        f"{file_stem(record.__name__)}.{schema.version}": _message(channel, schema, config)
        for record in channel.records
        for schema in history(record.__name__)
    }
    return document | {"bindings": {"kafka": kafka}}


def _message(channel: Channel, schema: Schema, config: Config) -> Document:
    name = f"{file_stem(schema.record)}.{schema.version}"
    message = {
        "name": name,
        "title": f"{schema.record}, version {schema.version}",
        "summary": msgspec.json.decode(schema.text)["doc"],
        "traits": [{"$ref": f"#/components/messageTraits/{channel.name}"}],
        "payload": {"schemaFormat": _AVSC, "schema": {"$ref": f"avro/{name}.avsc"}},
    }
    return message if config.registry.url else {**message, "x-fingerprint": schema.fingerprint.hex()}


def _trait(channel: Channel, config: Config) -> Document:
    """What all messages of a channel share: headers and key."""
    document: Document = {}
    if channel.headers:
        headers = {name: {"$ref": f"#/components/schemas/{name}"} for name in channel.headers}
        document["headers"] = {"type": "object", "properties": headers}
    if REQUEST_ID in channel.headers:
        document["correlationId"] = {"location": f"$message.header#/{REQUEST_ID}"}
    kafka: Document = {"key": {"type": "string", "description": channel.key}, "schemaIdLocation": "payload"}
    if config.registry.url is not None:
        kafka["schemaIdPayloadEncoding"] = "confluent"
    return document | {"bindings": {"kafka": {**kafka, "bindingVersion": _KAFKA_BINDING}}}


def _operations(placed: Sequence[Placed]) -> Iterator[tuple[str, Document]]:
    for name, _, channel in placed:
        writes = [(part, "send") for part in channel.written_by]
        reads = [(part, "receive") for part in channel.read_by]
        for part, action in writes + reads:
            operation: Document = {
                "action": action,
                "channel": {"$ref": f"#/channels/{name}"},
                "tags": [{"name": str(part)}],
            }
            if channel.answered_on and part in (Part.SERVICES, Part.JOB):
                operation["reply"] = {"channel": {"$ref": f"#/channels/{channel.answered_on}"}}
            yield f"{part}-{action}-{name}", operation
