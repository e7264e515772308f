"""The sample of requests that both paths answer, and what it may cost."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import msgspec
from forebay_jobs.judging.model import CATEGORY as JUDGING
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError, InvalidRequest, RecordError
from forebay_schemas.prices import cost, upper_bound
from forebay_schemas.records import CacheOptions, CachePolicy, Lane, Request, Usage
from forebay_schemas.validation import validate

from ..request_lines import LineError, numbered, parse_object, plain, request_of
from ..request_log import newest_requests
from ..warming.run import CHARS_PER_TOKEN, prompt_chars
from ..warming.sieve import PREFIX as WARMING

ANSWER = "answer"
"""The field of a line that says what is right."""
_PREFIX = "parity-"
"""Of the ids of all requests that are asked here."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and the right answer where it is known."""

    request: Request
    answer: str | None = None


def cases_in(file: BinaryIO, tenant: str | None, config: Config) -> list[Case]:
    """The cases of a file of requests.

    Raises:
        LineError: a line is none; the message says why.
    """
    cases: list[Case] = []
    for number, line in numbered(plain(file)):
        try:
            fields = parse_object(line)
            answer = fields.pop(ANSWER, None)
            if answer is not None and (not isinstance(answer, str) or not answer.strip()):
                raise InvalidRequest(ANSWER, f"is {answer!r}, no text", "give the right answer, or leave it out")
            request, _ = request_of(fields, tenant)
            validate(request, config)
        except RecordError as error:
            raise LineError(number, error) from None
        cases.append(Case(request, answer))
    if not cases:
        raise ForebayError('the file holds no request; give one a line, such as {"question": "..."}')
    return cases


def recent_cases(config: Config, count: int) -> list[Case]:
    """The newest requests of the request topics, of which nobody knows what is right.

    Those of `forebay parity` itself, and of `forebay warm`, which repeats what was asked, are none that users sent.
    """
    cases = [Case(request) for request in newest_requests(config, count, _is_a_users)]
    if not cases:
        raise ForebayError("the request topics hold no request of a user; give a file of them")
    return cases


def sampled(cases: Sequence[Case], count: int) -> list[Case]:
    """So many of them, the same ones each time; all where there are no more."""
    return list(cases) if len(cases) <= count else random.Random(_SEED).sample(cases, count)


def _is_a_users(request: Request) -> bool:
    return not request.request_id.startswith((_PREFIX, WARMING)) and request.category != JUDGING


def may_be_asked(case: Case, config: Config) -> bool:
    """Whether the request's bounds allow the largest tier."""
    return case.request.max_tier in (None, config.largest_tier)


def both_paths(case: Case, config: Config, within_s: float, now_ms: int) -> tuple[Request, Request]:
    """The request as the router sends it, and as everything would go to the largest tier.

    Both go past all caches on the batch lane, and greedily where the request does not say otherwise: what chance alone
    changes is no difference between the paths.
    """
    request = case.request
    routed = msgspec.structs.replace(
        request,
        request_id=f"{_PREFIX}{uuid.uuid4().hex}",
        created_ms=now_ms,
        deadline_ms=now_ms + round(within_s * 1000),
        lane=Lane.BATCH,
        stream=False,
        temperature=0.0 if request.temperature is None else request.temperature,
        cache=CacheOptions(policy=CachePolicy.BYPASS),
    )
    largest = msgspec.structs.replace(routed, request_id=f"{routed.request_id}-large", min_tier=config.largest_tier)
    return routed, largest


def usual_usd(cases: Sequence[Case], config: Config, answer_tokens: int) -> float:
    """US dollars for both paths if all went to the largest tier, and each answer had so many tokens."""
    usages = [
        Usage(prompt_tokens=prompt_chars(case.request) // CHARS_PER_TOKEN, completion_tokens=answer_tokens)
        for case in cases
    ]
    return 2 * sum(cost(usage, config.price(config.largest_tier), Lane.BATCH) for usage in usages)


def limit_usd(cases: Sequence[Case], config: Config) -> float:
    """The most that both paths may cost, in US dollars: each tier in turn writes all that it may."""
    return 2 * sum(upper_bound(case.request, config, Lane.BATCH) for case in cases)
