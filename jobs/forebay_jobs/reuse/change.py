"""Notices that what counts as equal has changed, from labels that come out worse than expected."""

from .learned import ALERT, AUDITS, MODEL, SUSPICION, Learned

_ODDS = 2.0
"""What is watched for: the odds of being wrong doubled. A greater change is found sooner."""
_ALARM = 1e6
"""While expectations hold, a million labels pass before a false alarm, on average. 1e3 raised one in some 700 labels on
a stream of general questions, where expectations hold but roughly; a factor of ten costs 40 to 90 requests of delay."""
_KEPT_SHARE = 0.2
"""Of what was learned before an alarm: some of it is still true, and the new has to outweigh it soon."""
_HALF_LIFE_REQUESTS = 1_000
"""Of the caution after an alarm."""
_FADE_A_REQUEST = 0.5 ** (1 / _HALF_LIFE_REQUESTS)


class ChangeDetector:
    """A Shiryaev-Roberts sum of likelihood ratios (an e-detector, Shin, Ramdas & Rinaldo, 2023).

    Under labels no worse than expected its mean after n labels is n at most, so it passes N after N labels on average
    at the earliest, whatever the questions are.
    """

    def __init__(self, learned: Learned) -> None:
        self._learned = learned

    @property
    def alert(self) -> float:
        """1 right after an alarm, fading to 0."""
        return min(1.0, self._learned.number(ALERT))

    def fade(self, requests: int) -> None:
        """Let as many requests pass."""
        self._learned.fade(ALERT, _FADE_A_REQUEST**requests)

    def learn(self, expected_wrong: float, right: bool) -> bool:
        """Weigh a label; whether it is one too many, in which case most of what was learned is given up."""
        worse = _ODDS * expected_wrong / (1.0 - expected_wrong + _ODDS * expected_wrong)
        ratio = (1.0 - worse) / (1.0 - expected_wrong) if right else worse / expected_wrong
        self._learned.add(SUSPICION, 1.0)
        self._learned.fade(SUSPICION, ratio)
        if self._learned.number(SUSPICION) < _ALARM:
            return False
        self._learned.fade(SUSPICION, 0.0)
        self._learned.fade(MODEL, _KEPT_SHARE)
        self._learned.fade(AUDITS, _KEPT_SHARE)
        self._learned.add(ALERT, 1.0)
        return True
