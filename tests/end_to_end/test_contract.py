"""What the real stack writes is what the AsyncAPI document says of its topics: kinds of records, and headers."""

from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from forebay_ops.asyncapi import asyncapi
from forebay_schemas.config import Config
from forebay_schemas.topics import Headers

from ..waiting import eventually
from .conftest import RunningStack

BAD = b"no request"
SILENT = {"audit", "batches"}
"""The channels on which nothing comes of what is done here."""


class Reader:
    """Reads all topics of a document from now on.

    Attributes:
        read: what came, by channel.
    """

    def __init__(self, config: Config, document: dict[str, Any]) -> None:
        self._channels = dict(_topics(document))
        self.read: dict[str, list[Message]] = {name: [] for name in document["channels"]}
        self._consumer = Consumer(config.kafka.client(group_id="contract", isolation_level="read_committed"))
        known = self._consumer.list_topics(timeout=10).topics
        places = [TopicPartition(topic, number) for topic in self._channels for number in known[topic].partitions]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)

    def silent(self) -> set[str]:
        """The channels on which nothing came, one more record later."""
        message = self._consumer.poll(0.05)
        if message is not None and not message.error():
            self.read[self._channels[message.topic() or ""]].append(message)
        return {name for name, messages in self.read.items() if not messages}

    def close(self) -> None:
        self._consumer.close()


def test_what_is_written_is_what_the_document_says(running: RunningStack) -> None:
    document = asyncapi(running.config)
    reader = Reader(running.config, document)
    _send_what_cannot_be_read(running.config)
    with running.client(tenant="contract") as client:
        reply = client.ask("What is on a topic?", timeout_s=60)
        client.ask("What is on a topic?", timeout_s=60)  # answered by the job
        "".join(client.stream("What is a key made of?", timeout_s=60))
        client.publish("What is read at night?", lane="batch")
        client.feedback(reply.request_id, "up")
        client.invalidate(tenant="contract")
        eventually(lambda: reader.silent() <= SILENT, "a record on each channel", poll_s=0.0)
    reader.close()

    for name, channel in document["channels"].items():
        fingerprints = {message["x-fingerprint"] for message in channel["messages"].values()}
        headers = document["components"]["messageTraits"][name].get("headers", {}).get("properties", {})
        for message in reader.read[name]:
            value = message.value() or b""
            assert value == BAD or value[2:10].hex() in fingerprints, name
            assert {header for header, _ in message.headers() or []} <= headers.keys(), name


def _send_what_cannot_be_read(config: Config) -> None:
    ids = Headers(request_id="unreadable", tenant="contract").to_kafka()
    producer = Producer(config.kafka.client())
    producer.produce(config.kafka.topics.requests, BAD, headers=list(ids.items()))
    producer.flush()


def _topics(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every topic with the name of its channel."""
    for name, channel in document["channels"].items():
        for tier in channel.get("parameters", {}).get("tier", {}).get("enum", [""]):
            yield channel["address"].replace("{tier}", tier), name
