"""What is lost by routing: by labels where there are some, else by how often the answers differ."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from forebay_client import Reply
from forebay_jobs.judging.judge import Judge, Pair
from forebay_jobs.judging.model import verdict_of, verdict_request
from forebay_schemas.canonical import category_of, question_of
from forebay_schemas.config import Config
from forebay_schemas.records import Request

from ..statistics import Interval, interval
from .sample import Case

AskAll = Callable[[Sequence[Request]], dict[str, Reply]]
Finding = Literal["within", "beyond", "unsure"]


@dataclass(frozen=True, slots=True)
class Answered:
    """A case, and both answers to it."""

    case: Case
    routed: Reply
    largest: Reply

    @property
    def category(self) -> str:
        return category_of(self.case.request)

    @property
    def as_json(self) -> bool:
        return self.case.request.response_format is not None or self.case.request.tools is not None


@dataclass(frozen=True, slots=True)
class Parity:
    """What routing loses of one category's quality.

    Attributes:
        by: ``labels``: the share of right answers that is lost; ``judge``: the share of answers that say something else
            than the largest tier's, of which some may be as good.
        cases: that were judged; ``untold`` ones could not be, and ``unanswered`` ones lack an answer of a path.
        right: shares of right answers, of the routed path and of the largest tier; None without labels.
        lost: of what was judged, with its 95 % interval, for which all cases are independent: where questions repeat
            themselves it is too narrow. None where no case was judged.
        bounds: the least and the most that may be lost: the ends of the interval if what was not judged were all
            answered best by the routed path, and if it were all lost.
        tiers: how many routed answers each tier gave.
        cost: US dollars, of the routed answers and of the largest tier's.
    """

    category: str
    by: Literal["labels", "judge"]
    cases: int
    untold: int
    unanswered: int
    right: tuple[float, float] | None
    lost: Interval | None
    bounds: tuple[float, float]
    tiers: dict[str, int]
    cost: tuple[float, float]

    def finding(self, tolerance: float) -> Finding:
        """On which side of the tolerance it lies, whatever would be found of the cases that were not judged."""
        least, most = self.bounds
        if least <= tolerance < most:
            return "unsure"
        return "beyond" if least > tolerance else "within"


def compare(
    answered: Sequence[Answered], unanswered: Sequence[Case], judge: Judge, config: Config, ask: AskAll, now_ms: int
) -> list[Parity]:
    """Judge all cases; one entry for each category and way of judging, in the order of their names.

    Args:
        unanswered: cases that lack an answer of one of the paths.
        judge: as the job has it.
        ask: asks the large tier what the judge leaves open.
        now_ms: creation time of what is asked.
    """
    groups: dict[tuple[str, bool], list[Answered]] = {_group(case): [] for case in unanswered}
    for one in answered:
        groups.setdefault(_group(one.case), []).append(one)
    missing = Counter(map(_group, unanswered))
    found: list[Parity] = []
    for key, group in sorted(groups.items(), key=lambda item: item[0]):
        category, labelled = key
        if labelled:
            right = _right(group, judge)
            lost = [largest - routed for routed, largest in right]
            shares = (fmean(routed for routed, _ in right), fmean(largest for _, largest in right)) if right else None
            found.append(_parity(category, "labels", group, missing[key], lost, shares))
        else:
            lost = _different(group, judge, config, ask, now_ms)
            found.append(_parity(category, "judge", group, missing[key], lost, None))
    return found


def _group(case: Case) -> tuple[str, bool]:
    return category_of(case.request), case.answer is not None


def _right(group: Sequence[Answered], judge: Judge) -> list[tuple[float, float]]:
    """Whether the routed answer is right, and the largest tier's, of the cases where both could be told."""
    texts = [(one, text) for one in group for text in (one.routed.said, one.largest.said)]
    found = judge.agree_all([_pair(one, one.case.answer or "", text) for one, text in texts])
    equal = [agreement.equal for agreement in found]
    return [
        (float(routed), float(largest))
        for routed, largest in zip(equal[::2], equal[1::2], strict=True)
        if routed is not None and largest is not None
    ]


def _different(group: Sequence[Answered], judge: Judge, config: Config, ask: AskAll, now_ms: int) -> list[float]:
    """Whether the answers say something else, of the cases where it could be told."""
    found = judge.agree_all([_pair(one, one.routed.said, one.largest.said) for one in group])
    equal = [agreement.equal for agreement in found]
    requests = {
        place: request
        for place, one in enumerate(group)
        if equal[place] is None and (request := _verdict_request(one, config, now_ms))
    }
    replies = ask(list(requests.values()))
    for place, request in requests.items():
        reply = replies.get(request.request_id)
        equal[place] = verdict_of(reply) if reply else None
    return [float(not same) for same in equal if same is not None]


def _verdict_request(one: Answered, config: Config, now_ms: int) -> Request | None:
    return verdict_request(
        question_of(one.case.request) or "",
        one.routed.said,
        one.largest.said,
        config,
        request_id=f"{one.routed.request_id}-judge",
        tenant=one.case.request.tenant,
        now_ms=now_ms,
    )


def _pair(one: Answered, text: str, other: str) -> Pair:
    return Pair(category=one.category, one=text, other=other, as_json=one.as_json)


def _parity(
    category: str,
    by: Literal["labels", "judge"],
    group: Sequence[Answered],
    unanswered: int,
    lost: Sequence[float],
    right: tuple[float, float] | None,
) -> Parity:
    untold = len(group) - len(lost)
    found = interval(lost) if lost else None
    return Parity(
        category=category,
        by=by,
        cases=len(lost),
        untold=untold,
        unanswered=unanswered,
        right=right,
        lost=found,
        bounds=_bounds(lost, found, untold + unanswered, -1.0 if by == "labels" else 0.0),
        tiers=dict(Counter(one.routed.tier or "-" for one in group)),
        cost=(sum(one.routed.cost for one in group), sum(one.largest.cost for one in group)),
    )


def _bounds(lost: Sequence[float], found: Interval | None, unknown: int, best: float) -> tuple[float, float]:
    """See ``Parity``; the least that a case can lose is ``best``, the most is 1."""
    if found is not None and not unknown:
        return found.low, found.high
    return interval([*lost, *[best] * unknown]).low, interval([*lost, *[1.0] * unknown]).high
