"""The log of librdkafka, which repeats itself several times a second while brokers are away.

It is silent unless its level is lowered: ``logging.getLogger("forebay_client.librdkafka").setLevel("INFO")``. What
matters is raised by the call it concerns, or logged by the part that notices.
"""

import logging

kafka_log = logging.getLogger("forebay_client.librdkafka")
kafka_log.setLevel(logging.CRITICAL)
