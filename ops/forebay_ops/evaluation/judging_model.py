"""A configured model's verdicts on pairs of answers, asked as the large tier would be."""

from collections.abc import Callable, Sequence

from forebay_jobs.judging.model import verdict_in, verdict_request
from forebay_schemas.config import Config
from forebay_schemas.records import Lane
from forebay_schemas.tiers import TierConfig
from forebay_workers.generation import generation_request

from ..models.jobs import AnswerJob, Subject
from ..models.measuring import answers_of
from .judging import Known

_NOTHING_ADDED = TierConfig(complexity_up_to=1.0, model="", max_tokens=16)


def verdicts(name: str, pairs: Sequence[Known], config: Config, doing: Callable[[str], None]) -> list[bool | None]:
    """What the model says to each pair; None where it cannot tell, or the pair is too long to be asked about.

    Raises:
        ConfigError: there is no such model.
        MeasuringFailed: it cannot be loaded or reached.
    """
    subject = Subject(name)
    subject.configured(config)  # refused at once, before anything is loaded
    requests = {
        place: request
        for place, pair in enumerate(pairs)
        if (request := verdict_request(
            pair.question, pair.one, pair.other, config, request_id=f"pair-{place}", tenant="default", now_ms=0
        ))
    }  # fmt: skip
    asked = [
        generation_request(request.request_id, request, _NOTHING_ADDED, Lane.INTERACTIVE)
        for request in requests.values()
    ]
    answers = answers_of(AnswerJob(subject, asked, rounds=1), doing).answers
    said = {place: verdict_in(answer.text or "") for place, answer in zip(requests, answers, strict=True)}
    return [said.get(place) for place in range(len(pairs))]
