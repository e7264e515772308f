"""What is asked ahead: the requests of a file, or those that were asked most."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from forebay_jobs.reuse.eligibility import reuse_of
from forebay_schemas.config import Config
from forebay_schemas.errors import RecordError
from forebay_schemas.records import Request
from forebay_schemas.validation import validate

from ..request_lines import LineError, numbered, parse_object, plain, request_of
from .sieve import PREFIX, key_of

Told = Callable[[str], None]

_TOLD_EVERY = 1_000


def requests_of(file: Path, tenant: str | None, config: Config) -> Iterator[Request]:
    """The requests of a file, plain or gzip.

    Raises:
        LineError: a line makes no request that can be answered.
    """
    with file.open("rb") as raw, plain(cast(BinaryIO, raw)) as lines:
        for number, line in numbered(lines):
            try:
                request, _ = request_of(parse_object(line), tenant)
                validate(request, config)
            except RecordError as error:
                raise LineError(number, error) from None
            yield request


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was asked most in a period.

    Attributes:
        requests: one of each, the most asked first; each was asked more than once.
        seen: requests of the period, all together.
        covered: those of them that equal one of these.
        useless: those whose answers may be given to nobody else.
    """

    requests: list[Request]
    seen: int
    covered: int
    useless: int


def most_asked(
    read: Callable[[], Iterable[Request]], config: Config, top: int, tenant: str | None, told: Told
) -> History:
    """Count equal requests, and take the ``top`` most asked ones.

    The period is read twice, first to count keys and then for one request of each that is wanted, so that memory holds
    about 150 bytes of each that differs and no text but those of the top.

    Args:
        read: gives all requests of the period; what was sent to fill caches does not count.
        tenant: whose; None: everybody's.
    """
    asked: Counter[str] = Counter()
    seen = useless = 0
    for seen, request in enumerate(_of(read(), tenant), start=1):
        if reuse_of(request, config).allowed:
            asked[key_of(request)] += 1
        else:
            useless += 1
        if seen % _TOLD_EVERY == 0:
            told(f"{seen:,} requests of the history counted")
    top_keys = {key: times for key, times in asked.most_common(top) if times > 1}
    found: dict[str, Request] = {}
    told(f"fetching the {len(top_keys):,} most asked")
    for request in _of(read(), tenant):
        if len(found) == len(top_keys):
            break
        if (key := key_of(request)) in top_keys:
            found.setdefault(key, request)
    return History(
        requests=[found[key] for key in top_keys if key in found],
        seen=seen,
        covered=sum(top_keys.values()),
        useless=useless,
    )


def _of(requests: Iterable[Request], tenant: str | None) -> Iterator[Request]:
    for request in requests:
        if tenant in (None, request.tenant) and not request.request_id.startswith(PREFIX):
            yield request
