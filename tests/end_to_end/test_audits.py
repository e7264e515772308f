"""A second tier is asked in the background: its answer is compared, and shown to nobody."""

import itertools

from forebay_ops.outcomes.reading import read_outcomes
from forebay_schemas.records import Audit

from ..waiting import eventually
from .conftest import RunningStack


def test_an_answer_is_compared_with_that_of_the_tier_above_which_nobody_sees(running: RunningStack) -> None:
    with running.client(tenant="audit") as client:
        asked = (f"How do I mend pump {number}?" for number in itertools.count())
        replies = (client.ask(each, category="audited", temperature=0.0, timeout_s=60) for each in asked)
        # A model of random weights finds no end to some.
        reply = next(each for each in replies if each.finish_reason == "stop" and each.text.strip())

    def told() -> Audit | None:
        audits = read_outcomes(running.config, since_ms=0).audits
        return next((audit for audit in audits if audit.request_id == reply.request_id), None)

    audit = eventually(told, "the audit of the answer", poll_s=0.5)
    assert (audit.reason, audit.tier, audit.other_tier, audit.weight) == ("tier_above", "small", "medium", 1)
    assert (audit.agrees, audit.judged_by) == (True, "text")  # both tiers have one model, which is asked greedily
    assert audit.other_cost > 0
    assert (audit.question or "").startswith("How do I mend pump")
    shown = [one.request_id for one in running.replies() if one.tenant == "audit"]
    assert shown.count(reply.request_id) == 1
    assert not any(request_id.startswith("shadow-") for request_id in shown)
