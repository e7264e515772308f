"""The controller: watches all live rollouts, and moves each as its guards say.

It keeps nothing. Rollouts are in the control topic, and what speaks for and against them is counted from the topics of
replies, feedback and audits, so one that was killed goes on where it was: what it has read by then may end a rollout,
and promotes one when all is read that was there. Of several that run the first to move a rollout does, and others learn
of it.
"""

import logging
import threading
import time
from collections.abc import Mapping
from functools import partial

from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError
from forebay_schemas.live_rollouts import crowded_out, in_order
from forebay_schemas.metrics import RolloutMetrics
from forebay_schemas.metrics_server import serve_metrics
from forebay_schemas.rollouts import Rollout, RolloutError, promote, roll_back

from .guards import Move, State, decided, judged
from .moving import Mover, operator
from .observing import Observer

EVERY_S = 1.0
"""How often all rollouts are judged."""
_AGAIN_S = 5.0
"""How soon a broker that was away is asked again."""
_SAID = {State.HOLDS: 1.0, State.OPEN: 0.0, State.BROKEN: -1.0}
_log = logging.getLogger(__name__)


def control(config: Config, stop: threading.Event) -> None:
    """Move rollouts until ``stop`` is set. Brokers that are away are waited for.

    Raises:
        ConfigError: the port of its metrics is taken.
    """
    metrics = RolloutMetrics()
    serve_metrics("rollouts_port", config.metrics.rollouts_port, "the controller")
    while not stop.is_set():
        mover, observer = Mover(config), Observer(config)
        try:
            _Controller(mover, observer, metrics).run(stop)
        except ForebayError as error:
            _log.warning("begins anew: %s", error)
            stop.wait(_AGAIN_S)
        finally:
            mover.close()
            observer.close()


class _Controller:
    def __init__(self, mover: Mover, observer: Observer, metrics: RolloutMetrics) -> None:
        self._mover = mover
        self._observer = observer
        self._metrics = metrics
        self._who = f"controller ({operator()})"

    def run(self, stop: threading.Event) -> None:
        self._observer.follow(self._mover.known())
        while not stop.is_set():
            next_s = time.monotonic() + EVERY_S
            while (left_s := next_s - time.monotonic()) > 0 and not stop.is_set():
                self._observer.read(min(0.2, left_s))
                if self._observer.idle:
                    stop.wait(min(0.2, left_s))
            known = self._mover.mend(self._who)
            self._observer.follow(known)
            self._metrics.guard.clear()
            in_the_way = crowded_out(known)
            for rollout in in_order(known.values()):
                if rollout.name in in_the_way:
                    self._move(rollout, Move.ROLL_BACK, in_the_way[rollout.name])
                else:
                    self._judge(rollout)

    def _judge(self, rollout: Rollout) -> None:
        evidence = self._observer.counting.of(rollout)
        for guard in judged(evidence, rollout.guards, rollout.stage):
            self._metrics.guard.labels(rollout.name, guard.name).set(_SAID[guard.state])
        move, why = decided(rollout, evidence, round(time.time() * 1000), caught_up=self._observer.caught_up)
        if move is not Move.STAY:
            self._move(rollout, move, why)

    def _move(self, rollout: Rollout, move: Move, why: str) -> None:
        try:
            moved = self._mover.move(partial(self._next, rollout=rollout, move=move, why=why))
        except RolloutError as error:
            _log.info("%s", error)
            return
        self._metrics.moves.labels(move.value.replace(" ", "_")).inc()
        _log.info("%s: %s, now at %s: %s", rollout.name, move, moved.stage, why)

    def _next(self, known: Mapping[str, Rollout], now_ms: int, *, rollout: Rollout, move: Move, why: str) -> Rollout:
        """The transition, of what was judged and nothing newer."""
        if known[rollout.name] != rollout:
            raise RolloutError(f"{rollout.name}: was moved meanwhile")
        step = promote if move is Move.PROMOTE else roll_back
        return step(rollout, who=self._who, why=why, now_ms=now_ms)
