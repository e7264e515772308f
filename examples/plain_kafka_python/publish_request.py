"""Publishes one request and prints its id, with nothing of Forebay but the .avsc files.

    pip install confluent-kafka fastavro
    python examples/plain_kafka_python/publish_request.py schemas/avro localhost:19092 acme "Where is my parcel?"

The reply comes on the reply topic, under this id: see consume_replies.py.
"""

import argparse
import time
import uuid
from pathlib import Path

from avro_values import AvroValues
from confluent_kafka import KafkaException, Producer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("schemas", type=Path, help="folder of the .avsc files")
    parser.add_argument("bootstrap", help="host:port of a broker")
    parser.add_argument("tenant", help="whose request it is")
    parser.add_argument("question")
    parser.add_argument("--topic", default="llm.requests")
    given = parser.parse_args()

    request_id = uuid.uuid4().hex  # sent again under the same id, it is answered once
    request = {
        "request_id": request_id,
        "tenant": given.tenant,
        "created_ms": time.time_ns() // 1_000_000,
        "messages": [{"role": "user", "content": given.question}],
    }
    producer = Producer({"bootstrap.servers": given.bootstrap, "enable.idempotence": True})
    outcome = []
    producer.produce(
        given.topic,
        AvroValues(given.schemas, "request").encode(request),
        request_id,
        # With these an error reply is possible where the value cannot be read.
        headers={"forebay-request-id": request_id, "forebay-tenant": given.tenant},
        on_delivery=lambda error, _: outcome.append(error),
    )
    producer.flush(30)
    if outcome != [None]:
        raise KafkaException(outcome[0] if outcome else f"no answer of {given.bootstrap} within 30 s")
    print(request_id)


if __name__ == "__main__":
    main()
