"""What may be spent on errors, and at which price: the highest chance of being wrong at which an answer is reused."""

import math

import numpy as np

from .learned import BALANCE, DEMAND, REQUESTS, SCORE_BINS, TRAFFIC, Learned

PLANNED_SHARE = 0.9
"""Of delta. The rest is a margin for what the estimate has wrong."""
_SPREAD_REQUESTS = 3_000
"""Over as many requests what was saved is spent; and no more than they are granted is ever saved, so that a quiet
time buys no burst of errors."""
_HALF_LIFE_REQUESTS = 5_000
"""Of the demand; at 2,000 the price swings."""
_TICK_REQUESTS = 16
"""Between these the price stands still: it moves by less than the noise."""
_FADED_BY_TICK = 0.5 ** (_TICK_REQUESTS / _HALF_LIFE_REQUESTS)
_LOWEST, _HIGHEST = -7.0, 2.0
"""Bounds of the score, the logit of the chance of being wrong: 0.1 % to 88 %."""
_WIDTH = (_HIGHEST - _LOWEST) / SCORE_BINS


class Budget:
    """Grants each request its share of delta, and sets the price at which demand meets what there is to spend.

    An ad auction paces a campaign so: the price falls when the plan is overspent and rises when money is left.
    """

    def __init__(self, delta: float, learned: Learned) -> None:
        self._grant = PLANNED_SHARE * delta
        self._learned = learned
        self._requests = 0
        self._place = -1.0
        """The price as a place among the bins; the fraction is the share of the bin that can be had."""

    def arrive(self, inflation: float) -> bool:
        """Count a request in; whether the price was set anew.

        Args:
            inflation: how many errors there are for one that the model expects.
        """
        self._learned.add(BALANCE, self._grant)
        self._learned.add(REQUESTS, 1.0)
        self._requests += 1
        if self._requests < _TICK_REQUESTS and self._place >= 0:
            return False
        self._requests = 0
        self._learned.fade(TRAFFIC, _FADED_BY_TICK)
        beyond = self.balance - self._grant * _SPREAD_REQUESTS
        if beyond > 0:
            self._learned.add(BALANCE, -beyond)
        self.set_price(inflation)
        return True

    def demand(self, wrong: float) -> None:
        """Note that there is an answer to be had at a chance of being wrong."""
        place = _bin_of(wrong)
        self._learned.add(slice(DEMAND.start + place, DEMAND.start + place + 1), wrong)

    def set_price(self, inflation: float) -> None:
        """Find the price at which what is expected to be spent is the grant and a part of the savings."""
        a_request = max(0.0, self._grant + self.balance / _SPREAD_REQUESTS)
        plan = a_request * self._learned.number(REQUESTS)
        spent = np.cumsum(self._learned[DEMAND]) * inflation
        place = int(np.searchsorted(spent, plan, side="right"))
        below = float(spent[place - 1]) if place else 0.0
        within = (plan - below) / (float(spent[place]) - below) if place < SCORE_BINS else 0.0
        self._place = place + within

    @property
    def price(self) -> float:
        """Chance of being wrong, in [0, 1], up to which an answer is reused."""
        return 1.0 / (1.0 + math.exp(-(_LOWEST + self._place * _WIDTH)))

    def cheap_enough(self, wrong: float, lot: float) -> bool:
        """Whether a chance of being wrong is below the price.

        Args:
            lot: in [0, 1), decides in the bin that the price cuts. Where all chances are alike that is the only way
                to take a part of them.
        """
        return _bin_of(wrong) + lot < self._place

    def affords(self, errors: float) -> bool:
        """Whether so much was granted and not yet spent."""
        return self.balance >= errors

    def spend(self, errors: float) -> None:
        """Charge the expected errors of an answer that is reused."""
        self._learned.add(BALANCE, -errors)

    @property
    def balance(self) -> float:
        """Errors granted and not spent."""
        return self._learned.number(BALANCE)


def _bin_of(wrong: float) -> int:
    score = math.log(wrong / (1.0 - wrong))
    return min(max(int((score - _LOWEST) / _WIDTH), 0), SCORE_BINS - 1)
