"""The keys of commands: what compaction, or a tombstone, takes away with one."""

from forebay_schemas import commands


def _key(tenant: str, user: str | None, command_id: str) -> str:
    return commands.forget(tenant, user, command_id, issued_by="test", issued_ms=1).key


def test_who_is_forgotten_again_is_taken_out_of_the_topic_with_both_commands() -> None:
    assert _key("acme", "ada", "one") == _key("acme", "ada", "two")


def test_nobody_elses_command_is_taken_out() -> None:
    askers = [("acme", "ada"), ("acme", None), ("acme", "None"), ("acme", "bob"), ("acmea", "da")]
    assert len({_key(tenant, user, "one") for tenant, user in askers}) == len(askers)
