"""The topics that a configuration needs."""

import pytest
from forebay_ops.local.effective import PROFILE
from forebay_ops.topics import topic_specs
from forebay_schemas.config import load_config


def test_there_is_a_topic_for_everything_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_REQUEST_TOPICS", '{"shop.requests": {"tenant": "shop"}}')
    monkeypatch.setenv("FOREBAY_FEEDBACK_TOPICS", '{"shop.feedback": "shop"}')
    monkeypatch.setenv("FOREBAY_KAFKA__REPLY_TOPICS", '["shop.replies"]')
    names = [spec.name for spec in topic_specs(load_config(PROFILE))]
    assert len(set(names)) == len(names)
    assert set(names) == {
        "llm.requests",
        "llm.requests.batch",
        "shop.requests",
        *(f"llm.tier.{tier}{lane}" for tier in ("small", "medium", "large") for lane in ("", ".batch")),
        "llm.results",
        "llm.replies",
        "llm.replies.stream",
        "shop.replies",
        "llm.feedback",
        "shop.feedback",
        "llm.requests.dead",
        "llm.control",
        "llm.events",
        "llm.audit",
        "llm.batches",
    }


def test_every_topic_takes_a_record_of_ours_around_the_largest_request() -> None:
    config = load_config(PROFILE)
    limits = {spec.settings["max.message.bytes"] for spec in topic_specs(config)}
    assert limits == {str(config.kafka.max_wire_bytes)}


def test_commands_are_compacted_and_in_one_order() -> None:
    config = load_config(PROFILE)
    control = next(spec for spec in topic_specs(config) if spec.name == "llm.control")
    assert control.settings["cleanup.policy"] == "compact"
    assert control.partitions == 1


def test_of_a_batch_the_newest_record_is_kept_and_not_for_ever() -> None:
    batches = next(spec for spec in topic_specs(load_config(PROFILE)) if spec.name == "llm.batches")
    assert batches.settings["cleanup.policy"] == "compact,delete"
    assert int(batches.settings["retention.ms"]) == 90 * 86_400_000
    assert batches.partitions == 1
