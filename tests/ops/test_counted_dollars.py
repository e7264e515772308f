"""Every dollar of a reply is counted once, whether job or worker wrote it and however many generations it took."""

import json
from pathlib import Path

import pytest
from forebay_jobs.caches.answers import Answer
from forebay_jobs.messages import Asker
from forebay_jobs.replies import ReplyWriter
from forebay_schemas.errors import ErrorCode
from forebay_schemas.metrics import JobMetrics, WorkerMetrics
from forebay_schemas.records import CacheStatus, Lane, Reply
from forebay_workers.backends import GenerationError
from forebay_workers.counting import count
from forebay_workers.lanes import Delivery
from forebay_workers.outcome import Outcome
from prometheus_client import CollectorRegistry

from ..builders import NOW_MS, make_request
from ..jobs.doubles import reply_of as job_reply
from ..samples import total
from ..workers.doubles import CODEC, delivery, task_for
from ..workers.saying import Answering, reply_of, saying

ASKER = Asker(
    request_id="again",
    tenant="shop",
    category="default",
    lane=Lane.INTERACTIVE,
    created_ms=NOW_MS,
    accepted_ms=NOW_MS,
    reply_topic="llm.replies",
    reply_key="again",
)
JSON = json.dumps({"type": "json_object"})


class Counted:
    """A job and a worker with a registry each, as they are in their processes, and all replies they gave."""

    def __init__(self, folder: Path) -> None:
        self.run = Answering(folder)
        self.job, self.worker = CollectorRegistry(), CollectorRegistry()
        self.writer = ReplyWriter(self.run.config, CODEC, JobMetrics(self.job))
        self._worker_metrics = WorkerMetrics(self.worker)
        self.replies: list[Reply] = []

    def works_on(self, task: Delivery, *says: object) -> Outcome:
        self.run.pool.asked.clear()
        self.run.pool.says = says  # pyright: ignore[reportAttributeAccessIssue]
        return self.tells(task, self.run.outcome(task))

    def tells(self, task: Delivery, outcome: Outcome) -> Outcome:
        count(self._worker_metrics, task, outcome)
        if outcome.reply is not None:
            self.replies.append(reply_of(outcome))
        return outcome

    def gives_again(self, status: CacheStatus) -> None:
        answer = Answer.of(self.replies[0], {}, None)
        self.replies += [job_reply(sent) for sent in self.writer.again(ASKER, answer, status, NOW_MS + 3)]

    def dollars(self, name: str) -> float:
        return total(self.job, f"forebay_{name}_dollars_total") + total(self.worker, f"forebay_{name}_dollars_total")


def test_the_dollars_of_metrics_and_replies_are_equal(tmp_path: Path) -> None:
    counted = Counted(tmp_path)
    counted.works_on(delivery(task_for()), saying())
    counted.works_on(delivery(task_for(make_request(lane=Lane.BATCH)), lane=Lane.BATCH), saying())
    counted.works_on(delivery(task_for()), saying(model_id="standby"))
    counted.works_on(delivery(task_for(make_request(response_format=JSON))), saying("{"), saying("{}"))
    counted.works_on(delivery(task_for()), GenerationError(ErrorCode.ENGINE_REFUSED, "no such grammar"))
    small = counted.works_on(delivery(task_for()), saying(confidence=0.1))
    doubtful = saying(confidence=0.1, model_id="middle")
    medium = counted.works_on(delivery(small.records[0].value, tier="medium"), doubtful)
    counted.works_on(delivery(medium.records[0].value, tier="large"), saying(model_id="big"))
    given_up = delivery(task_for())
    counted.tells(given_up, counted.run.give_up(given_up))
    for status in (CacheStatus.EXACT, CacheStatus.SEMANTIC, CacheStatus.JOINED):
        counted.gives_again(status)
    refused = counted.writer.refuse(ASKER, ErrorCode.DEADLINE_EXCEEDED, "too late", NOW_MS)
    counted.replies.append(job_reply(refused))

    assert len(counted.replies) == 11
    assert max(reply.hops for reply in counted.replies) == 3
    spent, baseline = (sum(getattr(reply, name) for reply in counted.replies) for name in ("cost", "baseline_cost"))
    for name in ("cost", "reply_cost", "endpoint_cost"):
        assert counted.dollars(name) == pytest.approx(spent), name
    for name in ("reply_baseline", "endpoint_baseline"):
        assert counted.dollars(name) == pytest.approx(baseline), name
    assert total(counted.job, "forebay_reply_cost_dollars_total") == 0  # the job generates nothing
