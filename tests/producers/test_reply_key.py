"""A reply key lands where Kafka's own clients put it."""

import pytest
from forebay_client.reply_key import partition_of


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [  # of org.apache.kafka.common.utils.UtilsTest
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
@pytest.mark.parametrize("partitions", [1, 3, 4, 1000])
def test_a_key_belongs_to_the_partition_that_kafka_says(key: str, murmur2: int, partitions: int) -> None:
    assert partition_of(key.encode(), partitions) == (murmur2 & 0x7FFFFFFF) % partitions
