"""What is lost by routing: by labels where there are some, else by how often the answers differ."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
            than the largest tier's, of which some may be as good: the most that is lost.
        cases: that were judged; ``untold`` ones could not be.
        right: shares of right answers, of the routed path and of the largest tier; None without labels.
        lost: with its 95 % interval; None where no case was judged.
        tiers: how many routed answers each tier gave.
        cost: US dollars, of the routed answers and of the largest tier's.
    """

    category: str
    by: Literal["labels", "judge"]
    cases: int
    untold: int
    right: tuple[float, float] | None
    lost: Interval | None
    tiers: dict[str, int]
    cost: tuple[float, float]

    def finding(self, tolerance: float) -> Finding:
        """On which side of the tolerance the whole interval lies."""
        if self.lost is None or self.lost.low <= tolerance < self.lost.high:
            return "unsure"
        return "beyond" if self.lost.low > tolerance else "within"


def compare(answered: Sequence[Answered], judge: Judge, config: Config, ask: AskAll, now_ms: int) -> list[Parity]:
    """Judge all cases; one entry for each category and way of judging, in the order of their names.

    Args:
        judge: as the job has it.
        ask: asks the large tier what the judge leaves open.
        now_ms: creation time of what is asked.
    """
    groups: dict[tuple[str, bool], list[Answered]] = {}
    for one in answered:
        groups.setdefault((one.category, one.case.answer is not None), []).append(one)
    return [
        _by_labels(group, judge) if labelled else _by_judge(group, judge, config, ask, now_ms)
        for (_, labelled), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def _by_labels(group: Sequence[Answered], judge: Judge) -> Parity:
    texts = [(one, text) for one in group for text in (one.routed.text, one.largest.text)]
    found = judge.agree_all([_pair(one, one.case.answer or "", text) for one, text in texts])
    equal = [agreement.equal for agreement in found]
    right = [
        (float(routed), float(largest))
        for routed, largest in zip(equal[::2], equal[1::2], strict=True)
        if routed is not None and largest is not None
    ]
    shares = None
    if right:
        shares = sum(routed for routed, _ in right) / len(right), sum(largest for _, largest in right) / len(right)
    return _parity(group, "labels", [largest - routed for routed, largest in right], shares)


def _by_judge(group: Sequence[Answered], judge: Judge, config: Config, ask: AskAll, now_ms: int) -> Parity:
    found = judge.agree_all([_pair(one, one.routed.text, one.largest.text) for one in group])
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
    return _parity(group, "judge", [float(not same) for same in equal if same is not None], None)


def _verdict_request(one: Answered, config: Config, now_ms: int) -> Request | None:
    return verdict_request(
        question_of(one.case.request) or "",
        one.routed.text,
        one.largest.text,
        config,
        request_id=f"{one.routed.request_id}-judge",
        tenant=one.case.request.tenant,
        now_ms=now_ms,
    )


def _pair(one: Answered, text: str, other: str) -> Pair:
    return Pair(category=one.category, one=text, other=other, as_json=one.as_json)


def _parity(
    group: Sequence[Answered],
    by: Literal["labels", "judge"],
    lost: Sequence[float],
    right: tuple[float, float] | None,
) -> Parity:
    return Parity(
        category=group[0].category,
        by=by,
        cases=len(lost),
        untold=len(group) - len(lost),
        right=right,
        lost=interval(lost) if lost else None,
        tiers=dict(Counter(one.routed.tier or "-" for one in group)),
        cost=(sum(one.routed.cost for one in group), sum(one.largest.cost for one in group)),
    )
