"""Prints every reply as a line of JSON, with nothing of Forebay but the .avsc files.

    pip install confluent-kafka fastavro
    python examples/plain_kafka_python/consume_replies.py schemas/avro localhost:19092

The next run of the same group goes on where this one stopped.
"""

import argparse
import json
from pathlib import Path

from avro_values import AvroValues
from confluent_kafka import Consumer, KafkaException


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("schemas", type=Path, help="folder of the .avsc files")
    parser.add_argument("bootstrap", help="host:port of a broker")
    parser.add_argument("--topic", default="llm.replies")
    parser.add_argument("--group", default="plain-python")
    given = parser.parse_args()

    replies = AvroValues(given.schemas, "reply")
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": given.group,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",  # workers write in transactions, and an aborted one is no reply
            "enable.auto.offset.store": False,  # what was handled counts as read, not what was fetched
        }
    )
    consumer.subscribe([given.topic])
    try:
        while True:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            reply = replies.decode(message.value() or b"")
            # A crash before the next commit brings the last replies again, and a restarted job may write one twice:
            # whoever keeps them does so under tenant and request_id, and a repeat replaces itself.
            print(json.dumps(reply), flush=True)
            consumer.store_offsets(message)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()  # commits


if __name__ == "__main__":
    main()
