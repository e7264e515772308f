"""Reuse within a bound: of all requests at most a share delta is answered wrongly by reuse.

`docs/reuse.md` has the statistics and the assumptions. One object serves one namespace in one process.
"""

from collections.abc import Sequence

import numpy as np
from forebay_schemas.errors import ConfigError

from .budget import Budget
from .change import ChangeDetector
from .decision import Decision, Verdict, lot
from .estimator import Estimator, Prior
from .learned import AUDITED_EXPECTED, AUDITED_WRONG, AUDITS, Learned
from .neighbourhood import FEATURES, LEAST_SIMILARITY, Candidate, features

BOUNDED = "bounded"
AUDITED_SHARE = 0.04
"""Of what would be reused: generated after all, to see how often it would have been wrong."""
_AUDITED_MORE_AFTER_ALARM = 0.3
"""So that 2,000 requests after a change are enough for some dozens of audits."""
_INFLATION = 1.25
"""Errors for one that the model expects, before any audit: answers that look right to the model are chosen, so its
mistakes are among them (the winner's curse)."""
_INFLATION_MORE_AFTER_ALARM = 2.0
_INFLATION_WORTH = 5.0
"""Expected errors that have to be audited until the audits weigh as much."""
_AUDITS_HALF_LIFE = 1_000
"""Months of a small namespace: audits are few, and what they correct is the model's nature more than the data's."""
_AUDITS_FADE = 0.5 ** (1 / _AUDITS_HALF_LIFE)
_LEAST_WEIGHT = 0.01
"""Of a label far from being reused; there are hundreds for one near the price."""


class BoundedReuse:
    """Decides request by request, and learns from every answer that was generated beside a known neighbour.

    Not to be shared between threads.

    Raises:
        ConfigError: delta is not within (0, 1).
    """

    def __init__(self, delta: float, prior: Prior, learned: Learned | None = None) -> None:
        """
        Args:
            delta: the share of all requests that reuse may answer wrongly.
            learned: what the namespace knows already.
        """
        if not 0.0 < delta < 1.0:
            raise ConfigError(f"delta: {delta} is not between 0 and 1; give a share such as 0.01 for 1 %")
        self._learned = learned or Learned()
        self._estimator = Estimator(prior, self._learned)
        self._budget = Budget(delta, self._learned)
        self._change = ChangeDetector(self._learned)
        self._unfaded = 0

    @property
    def least(self) -> float:
        """See ``Policy.least``."""
        return LEAST_SIMILARITY

    def decide(self, request_id: str, question: str, candidates: Sequence[Candidate]) -> Decision:
        """See ``Policy.decide``."""
        inflation = self._arrive()
        vector = features(question, candidates)
        if vector is None:
            return Decision(verdict=Verdict.NOTHING_NEAR, policy=BOUNDED)
        wrong = self._estimator.wrong(np.array(vector))
        self._budget.demand(wrong)
        charge = min(1.0, wrong * inflation)
        verdict = self._verdict(request_id, wrong, charge)
        if verdict is Verdict.REUSED:
            self._budget.spend(charge)
        return Decision(
            verdict=verdict,
            policy=BOUNDED,
            similarity=candidates[0].similarity,
            wrong=wrong,
            charge=charge,
            price=self._budget.price,
            vector=vector,
        )

    def joined(self, decision: Decision, count: int) -> None:
        """Equal requests were given the same answer: each is granted its share, and is as likely wrong."""
        for _ in range(count):
            self._arrive()
            self._budget.spend(decision.charge)

    def worth(self, decision: Decision) -> float:
        """See ``Policy.worth``."""
        return 0.0 if decision.wrong is None else _weight(decision)

    def learn(self, decision: Decision, right: bool, share: float = 1.0) -> None:
        """See ``Policy.learn``.

        Labels of what was generated are free of selection; those of what was reused come from feedback, which tells
        of wrong answers only, and make it stricter.
        """
        if decision.wrong is None:
            return
        if decision.verdict is Verdict.AUDITED:
            self._learned.fade(AUDITS, _AUDITS_FADE)
            self._learned.add(AUDITED_WRONG, float(not right))
            self._learned.add(AUDITED_EXPECTED, decision.wrong)
        alarmed = self._change.learn(decision.wrong, right)
        self._estimator.learn(np.array(decision.vector), right, _weight(decision) / share)
        if alarmed:
            self._estimator.refresh()
            self._budget.set_price(self._inflation())

    def explain(self, decision: Decision) -> tuple[float, dict[str, float]]:
        """What is thought of a decision by now: the chance that the answer is wrong, in (0, 1), and by feature how much
        it speaks for the answer (above zero) or against it, in logits."""
        vector = np.array(decision.vector)
        return self._estimator.wrong(vector), dict(zip(FEATURES, self._estimator.effects(vector).tolist(), strict=True))

    def take(self) -> tuple[bytes, bytes]:
        """See ``Learned.take``."""
        return self._learned.take()

    def settle(self, shared: bytes | None) -> None:
        """See ``Learned.settle``."""
        self._learned.settle(shared)
        self._estimator.refresh()
        self._budget.set_price(self._inflation())

    def _arrive(self) -> float:
        """Count a request in; errors for one that the model expects."""
        self._unfaded += 1
        inflation = self._inflation()
        if self._budget.arrive(inflation):
            self._change.fade(self._unfaded)
            self._unfaded = 0
        return inflation

    def _verdict(self, request_id: str, wrong: float, charge: float) -> Verdict:
        if not self._budget.cheap_enough(wrong, lot(request_id, b"price")):
            return Verdict.TOO_UNSURE
        if not self._budget.affords(charge):
            return Verdict.BUDGET_SPENT
        audited = AUDITED_SHARE + _AUDITED_MORE_AFTER_ALARM * self._change.alert
        return Verdict.AUDITED if lot(request_id, b"audit") < audited else Verdict.REUSED

    def _inflation(self) -> float:
        """Errors for one that the model expects: a Gamma-Poisson posterior mean over the audits."""
        before = _INFLATION + _INFLATION_MORE_AFTER_ALARM * self._change.alert
        wrong, expected = self._learned.number(AUDITED_WRONG), self._learned.number(AUDITED_EXPECTED)
        return (_INFLATION_WORTH * before + wrong) / (_INFLATION_WORTH + expected)


def _weight(decision: Decision) -> float:
    """Labels near the price count fully, those far from being reused little: the line is to be right where it cuts."""
    wrong = decision.wrong or 0.0
    return min(1.0, max(1.0 - wrong, _LEAST_WEIGHT) / (1.0 - decision.price + 1e-9))
