"""The log of librdkafka, which repeats itself many times a second while brokers are away.

It is silent unless its level is lowered: ``logging.getLogger("forebay_workers.librdkafka").setLevel("INFO")``. What
matters is logged by the part that notices.
"""

import logging

kafka_log = logging.getLogger("forebay_workers.librdkafka")
kafka_log.setLevel(logging.CRITICAL)
