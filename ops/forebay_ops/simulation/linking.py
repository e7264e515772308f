"""Which rows of a ledger ask the same, and what is near: told by whose answers were given again.

A generated row asks a question that has the row's number; what was given its answer as an equal request asks it too.
A semantic hit asks a question of its own, the same as all that met the same answer at the very same cosine. A miss has
the nearest question that was recorded, where that lies below the threshold that holds now (above it was one that could
not be given), or where a policy that learns decided.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from forebay_schemas.categories import MIN_SIMILARITY
from forebay_schemas.config import Config
from forebay_schemas.records import CachePolicy, CacheStatus

from .traffic import GENERATED, STATUSES, TOKENS, UNKNOWN, Case, Floats, Ints, Kind, Neighbours, Traffic

_SEMANTIC, _MISS, _BYPASS = (
    STATUSES.index(status) for status in (CacheStatus.SEMANTIC, CacheStatus.MISS, CacheStatus.BYPASS)
)


@dataclass(frozen=True, slots=True)
class Links:
    """Whose answers were given again.

    Attributes:
        question: of each row the question whose answer it was given: the number of the row for which that was
            generated, or one behind all rows, where that is not in the ledger.
        warm: these, each with the first row that was given its answer.
    """

    question: Ints
    warm: dict[int, int]

    @property
    def source(self) -> Ints:
        """Of each row the one for which its answer was generated; itself where that is not in the ledger."""
        rows = len(self.question)
        return np.where(self.question < rows, self.question, np.arange(rows))


def linked(columns: dict[str, Any]) -> Links:
    """Link the rows, which are in the order in which the requests came."""
    at_ms, own, matched, rows = columns["at_ms"], columns["own"], columns["matched"], len(columns["at_ms"])
    is_generated = np.isin(columns["status"], GENERATED)
    generated, again = np.flatnonzero(is_generated), np.flatnonzero(~is_generated)
    by_id = generated[np.argsort(own[generated], kind="stable")]
    ids, wanted = own[by_id], matched[again]
    place = np.searchsorted(ids, wanted, side="right") - 1
    # Of requests that had the same id one after the other it is the newest that came before.
    while len(ids) and (late := (place > 0) & (ids[place] == wanted) & (at_ms[by_id[place]] > at_ms[again])).any():
        place[late] -= 1
    found = (place >= 0) & columns["again"][again]
    found[found] = ids[place[found]] == wanted[found]
    question = np.arange(rows, dtype=np.int64)
    question[again[found]] = by_id[place[found]]
    before = again[~found]
    # Of an answer that a request of another tenant was given the ledger does not tell the request.
    answers = np.where(columns["again"][before], matched[before], before.astype(np.uint64))
    _, first, number = np.unique(answers, return_index=True, return_inverse=True)
    question[before] = rows + number
    return Links(question, dict(zip(range(rows, rows + len(first)), before[first].tolist(), strict=True)))


def traffic_of(
    columns: dict[str, Any], links: Links, kinds: list[Kind], cases: list[Case], case: Ints, config: Config
) -> Traffic:
    """The rows as traffic."""
    status, similarity = columns["status"], columns["similarity"]
    reworded = np.flatnonzero(status == _SEMANTIC)
    words, first = _numbered(links.question[reworded], similarity[reworded])
    begin = len(status) + len(links.warm)
    question = links.question.copy()
    question[reworded] = begin + words
    categories = [config.category(kinds[each.kind].category) for each in cases]
    # A policy that learns may leave aside what is near; a threshold does not.
    least = np.array([each.similarity if each.policy == "fixed" else np.inf for each in categories])[case]
    missed = np.flatnonzero((status == _MISS) & (similarity >= MIN_SIMILARITY) & (similarity < least))
    given = np.unique(links.source[~np.isin(status, GENERATED)])
    kinds, cases, case = _with_refreshes(kinds, cases, case, given[status[given] == _BYPASS])
    return Traffic(
        at_ms=columns["at_ms"],
        question=question,
        case=case,
        kinds=kinds,
        cases=cases,
        chars=np.zeros(len(status), dtype=np.int64),
        tokens=np.stack([columns[name] for name in TOKENS], axis=1).astype(np.int64),
        told=np.ones(len(status), dtype=bool),
        complete=columns["complete"].astype(bool),
        neighbours=_neighbours(
            begin + len(first),
            np.concatenate((missed, begin + np.arange(len(first)))),
            np.concatenate((np.full(len(missed), UNKNOWN), links.question[reworded[first]])),
            similarity[np.concatenate((missed, reworded[first]))],
        ),
        words=None,
        lots=None,
        timely=np.zeros(begin + len(first), dtype=bool),  # it was recorded as generated past the caches
        label=np.full(len(status), UNKNOWN, dtype=np.int64),
        right={},
        warm=links.warm,
    )


def _with_refreshes(
    kinds: list[Kind], cases: list[Case], case: Ints, rows: Ints
) -> tuple[list[Kind], list[Case], Ints]:
    """What passed the caches, and yet others were given its answer, was to refresh them."""
    concerned = np.unique(case[rows])
    more_kinds, more_cases = list(kinds), list(cases)
    for place in concerned:
        more_cases.append(replace(cases[place], kind=len(more_kinds)))
        more_kinds.append(replace(kinds[cases[place].kind], policy=CachePolicy.REFRESH))
    case = case.copy()
    case[rows] = len(cases) + np.searchsorted(concerned, case[rows])
    return more_kinds, more_cases, case


def _numbered(question: Ints, similarity: Floats) -> tuple[Ints, Ints]:
    """Of each pair its number, equal pairs having equal ones, and of each number the first place of such a pair."""
    # 64 bits are enough: among ten million pairs two that differ meet with a probability of three in a million.
    mixed = question.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + similarity.view(np.uint64)
    _, first, number = np.unique(mixed, return_index=True, return_inverse=True)
    return number, first


def _neighbours(questions: int, question: Ints, near: Ints, cosine: Floats) -> Neighbours:
    """One neighbour for each of some questions."""
    order = np.argsort(question)
    starts = np.concatenate(([0], np.cumsum(np.bincount(question, minlength=questions))))
    return Neighbours(starts, near[order], cosine[order].astype(np.float32))
