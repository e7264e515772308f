"""Networks between two parts that refuse, and such that swallow."""

from collections.abc import Callable

from ..breakable import (
    CALLERS_GATEWAY,
    CLIENTS_KAFKA,
    FLINK,
    GATEWAY_KAFKA,
    GATEWAY_REDIS,
    JOB_KAFKA,
    JOB_REDIS,
    KEEPER_FLINK,
    LEDGER_KAFKA,
    ROLLOUTS_KAFKA,
    WORKER_KAFKA,
    WORKER_MODEL,
)
from ..fault import Fault
from ..links import Link
from ..scene import Scene
from .freezes import SESSIONS_S

_CUT_S = 5.0
"""Long enough that each side has tried again, and failed."""


def _do(what: Callable[[Link], None], between: str) -> Callable[[Scene], None]:
    def do(scene: Scene) -> None:
        for link in scene.around.network.between(between):
            what(link)

    return do


def _for(lasts_s: float) -> Callable[[Scene], bool]:
    return lambda scene: scene.broken_for_s() > lasts_s


def _job_is_lost(scene: Scene) -> bool:
    return not scene.job_runs()


_WITH_KAFKA = (WORKER_KAFKA, JOB_KAFKA, CLIENTS_KAFKA, GATEWAY_KAFKA, LEDGER_KAFKA, ROLLOUTS_KAFKA)
_OTHERS = (JOB_REDIS, GATEWAY_REDIS, WORKER_MODEL, KEEPER_FLINK, CALLERS_GATEWAY)

FAULTS = (
    *(
        Fault(f"{between} {word}", Scene.generating, _do(how, between), _for(lasts_s), heal=_do(Link.mend, between))
        for between in (*_WITH_KAFKA, *_OTHERS)
        for word, how, lasts_s in (
            ("cut", Link.cut, _CUT_S),
            (f"silent for {SESSIONS_S:g} s", Link.stop_up, SESSIONS_S),
        )
    ),
    *(
        Fault(
            f"{FLINK} {word}",
            Scene.checkpoint_half_done,
            _do(how, FLINK),
            _job_is_lost,
            heal=_do(Link.mend, FLINK),
        )
        for word, how in (("cut", Link.cut), ("silent", Link.stop_up))
    ),
)
