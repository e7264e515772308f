"""Counts what speaks for and against a rollout in its stage, of the records that the pipeline writes anyway. Pure."""

from collections import OrderedDict
from typing import TypeVar

from forebay_jobs.arms import Arms
from forebay_jobs.shadows import ROLLOUT
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode
from forebay_schemas.records import Audit, CacheStatus, Feedback, Reply, Verdict
from forebay_schemas.rollouts import Rollout, Stage

from .guards import Evidence, Figures

_REMEMBERED = 200_000
"""Replies of late whose feedback is counted, and complaints of late; one takes about 200 bytes."""
_TIMES = 20_000
"""Generation times that are kept of each arm; P95 moves by a fraction of a per cent with more."""
Key = tuple[str, ...]
V = TypeVar("V")

_GENERATED = (CacheStatus.MISS, CacheStatus.BYPASS)


class Counting:
    """The evidence of all live rollouts. A stage begins with none.

    Args:
        config: what holds without rollouts, to know the model that should have answered.
    """

    def __init__(self, config: Config) -> None:
        self._arms = Arms(config)
        self._rollouts: dict[str, Rollout] = {}
        self._evidence: dict[str, Evidence] = {}
        self._replied: OrderedDict[Key, tuple[str | None, int]] = OrderedDict()
        """Arm and time of each reply."""
        self._complained: OrderedDict[Key, None] = OrderedDict()
        """Also those whose reply is not read yet: they lie in another topic."""
        self._audited: OrderedDict[Key, None] = OrderedDict()

    def follow(self, rollouts: dict[str, Rollout]) -> None:
        """From now on these rollouts hold."""
        self._arms.follow(rollouts.values())
        for name, rollout in rollouts.items():
            before = self._rollouts.get(name)
            if before is None or before.since_ms != rollout.since_ms:
                self._evidence[name] = Evidence()
        self._rollouts = {name: rollout for name, rollout in rollouts.items() if rollout.stage.live}

    def of(self, rollout: Rollout) -> Evidence:
        """What was counted in its stage so far."""
        return self._evidence.setdefault(rollout.name, Evidence())

    def reply(self, reply: Reply) -> None:
        """Count a reply; one that was written twice counts once."""
        key = reply.tenant, reply.request_id
        if not _is_new(self._replied, key, (reply.arm, reply.completed_ms)):
            return
        for figures in self._sides(reply.arm, reply.completed_ms):
            figures.replies += 1
            figures.complaints += key in self._complained
            if _is_generation(reply):
                self._generation(figures, reply)

    def audit(self, audit: Audit) -> None:
        """Count what a rollout in its shadow stage would have answered. One that comes later says nothing of a stage
        in which it answers itself."""
        prefix, _, name = audit.reason.partition("/")
        rollout = self._rollouts.get(name) if prefix == ROLLOUT else None
        if rollout is None or rollout.stage is not Stage.SHADOW:
            return
        if rollout.arm not in _names(audit.arm) or audit.other_tier is None:
            return
        key = audit.tenant, audit.request_id, audit.reason
        if audit.audited_ms < rollout.since_ms or not _is_new(self._audited, key, None):
            return
        evidence = self.of(rollout)
        evidence.canary.replies += 1
        evidence.canary.generated += 1
        stood_in = self._stood_in(audit.arm, audit.other_tier, audit.other_model_id)
        evidence.canary.failures += audit.other_error is not None or stood_in
        served = "+".join(one for one in _names(audit.arm) if one != rollout.arm) or None
        if audit.agrees is not None and not stood_in and not self._stood_in(served, audit.tier, audit.model_id):
            evidence.compared += 1
            evidence.agreed += audit.agrees

    def feedback(self, feedback: Feedback) -> None:
        """Count what was thought of a reply, once that is read too; the first complaint about one counts."""
        key = feedback.tenant, feedback.request_id
        if feedback.verdict is not Verdict.DOWN or not _is_new(self._complained, key, None):
            return
        if key in self._replied:
            for figures in self._sides(*self._replied[key]):
                figures.complaints += 1

    def _sides(self, arm: str | None, at_ms: int) -> list[Figures]:
        """The arm of each rollout, in its stage of that time, to which a reply belongs; in shadow all are baseline."""
        named = _names(arm)
        return [
            self.of(rollout).canary if rollout.arm in named else self.of(rollout).baseline
            for rollout in self._rollouts.values()
            if at_ms >= rollout.since_ms
        ]

    def _generation(self, figures: Figures, reply: Reply) -> None:
        figures.generated += 1
        figures.failures += reply.error is not None or self._stood_in(reply.arm, reply.tier, reply.model_id)
        figures.escalated += any(hop.tier != reply.tier for hop in reply.path)
        if reply.error is None:
            if len(figures.generation_ms) == _TIMES:
                figures.generation_ms.pop(0)
            figures.generation_ms.append(reply.latency.generation_ms)

    def _stood_in(self, arm: str | None, tier_name: str | None, model_id: str | None) -> bool:
        """Whether another model than its tier's answered: that one failed, or is not known to the worker.

        Of an arm with a rollout that is over nobody knows whose turn it was; there none did.
        """
        if not {one.arm for one in self._rollouts.values()}.issuperset(_names(arm)):
            return False
        tier = self._arms.config(arm).tiers.get(tier_name or "")
        return tier is not None and model_id != tier.model


def _is_new(known: OrderedDict[Key, V], key: Key, value: V) -> bool:
    """Whether this is the first time; what came so long ago that it is forgotten comes no second time."""
    if key in known:
        return False
    known[key] = value
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
    return True


def _names(arm: str | None) -> list[str]:
    """The rollouts in an arm."""
    return arm.split("+") if arm is not None else []


def _is_generation(reply: Reply) -> bool:
    """Whether a worker wrote it: what the job refuses, and what was taken back, says nothing about a rollout."""
    cancelled = reply.error is not None and reply.error.code == ErrorCode.CANCELLED
    return reply.route is not None and reply.cache_status in _GENERATED and not cancelled
