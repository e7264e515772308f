"""Whether the nearest known answer is given, as the job's policies decide: by a threshold, or by what they learn.

A policy that learns is the job's own object. In place of a judge of answers it has the labels: two answers agree where
their questions mean the same. What has no label teaches nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from forebay_jobs.messages import asker_name
from forebay_jobs.reuse.decision import Decision, Policy
from forebay_jobs.reuse.estimator import prior_for
from forebay_jobs.reuse.namespaces import policy_of, pool_of
from forebay_jobs.reuse.neighbourhood import Candidate
from forebay_schemas.config import Config

from .caches import Caches, Known
from .traffic import UNKNOWN, Traffic


class Decides(Protocol):
    """Decides for the requests of one kind."""

    @property
    def least(self) -> float:
        """Least cosine of a question that it wants to know of."""
        ...

    def reuses(self, row: int, question: int, known: Sequence[Known]) -> bool:
        """Whether the first of the known is given; called once for each row that is compared by meaning."""
        ...


class Threshold:
    """What is near enough is given."""

    def __init__(self, least: float) -> None:
        self.least = least

    def reuses(self, row: int, question: int, known: Sequence[Known]) -> bool:
        return bool(known)


class AsRecorded:
    """What was given is given, whatever decided that: a ledger tells a hit's neighbour, and of a miss none."""

    least = -1.0

    def reuses(self, row: int, question: int, known: Sequence[Known]) -> bool:
        return bool(known) and known[0].question != UNKNOWN


class _Entry:
    """What an entry of the cache remembers of how its answer was judged."""

    def __init__(self, question: int) -> None:
        self.group = str(question)
        self.right = 0
        self.wrong = 0


class _Lesson(NamedTuple):
    policy: Policy
    decision: Decision
    entry: int


class Learning:
    """The policies of all namespaces of some traffic, and what the entries remember.

    Args:
        run: name of the replay; it decides where lots are drawn.
    """

    def __init__(self, traffic: Traffic, config: Config, caches: Caches, run: str) -> None:
        self._words = traffic.words or ()
        self._label = traffic.label.tolist()
        self._config = config
        self._prior = prior_for(config)
        self._caches = caches
        self._run = run
        self._policies: dict[tuple[str, str], Policy] = {}
        self._entries: dict[int, _Entry] = {}
        self._lessons: dict[int, _Lesson] = {}

    def of(self, owner: str, tenant: str, category: str) -> "Learned":
        """What decides for a kind; kinds of one namespace share a policy."""
        namespace = owner, pool_of(category, self._config)
        policy = self._policies.get(namespace)
        if policy is None:
            policy = self._policies[namespace] = policy_of(self._config.category(category), self._prior)
        return Learned(self, policy, tenant)

    def decide(self, policy: Policy, tenant: str, row: int, question: int, known: Sequence[Known]) -> bool:
        """Ask a policy about a row."""
        candidates = [self._candidate(each) for each in known]
        name = asker_name(tenant, f"replay-{self._run}-{row + 1}")
        decision = policy.decide(name, self._words[question], candidates)
        if known and not decision.reused:
            self._lessons[row] = _Lesson(policy, decision, known[0].question)
        return decision.reused

    def kept(self, row: int, question: int, now_ms: int) -> None:
        """An answer was generated for a row, and is kept: it tells what its neighbour's was worth."""
        self._entries.pop(question, None)  # what was learned was about the answer that was there before
        lesson = self._lessons.pop(row, None)
        given = None if lesson is None else self._caches.row_of(lesson.entry, now_ms)
        if lesson is None or given is None or UNKNOWN in (self._label[row], self._label[given]):
            return
        right = self._label[row] == self._label[given]
        lesson.policy.learn(lesson.decision, right)
        entry = self._entry(lesson.entry)
        if right:
            entry.right += 1
            self._entry(question).group = entry.group
        else:
            entry.wrong += 1

    def _candidate(self, known: Known) -> Candidate:
        entry = self._entry(known.question)
        return Candidate(
            question=self._words[known.question],
            similarity=known.cosine,
            group=entry.group,
            right=entry.right,
            wrong=entry.wrong,
        )

    def _entry(self, question: int) -> _Entry:
        return self._entries.setdefault(question, _Entry(question))


class Learned:
    """A policy that learns, for the requests of one kind."""

    def __init__(self, learning: Learning, policy: Policy, tenant: str) -> None:
        self._learning = learning
        self._policy = policy
        self._tenant = tenant

    @property
    def least(self) -> float:
        return self._policy.least

    def reuses(self, row: int, question: int, known: Sequence[Known]) -> bool:
        return self._learning.decide(self._policy, self._tenant, row, question, known)
