"""How long `forebay plan simulate` takes on a ledger of many replies, beside the least that reading it can take."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from forebay_schemas.config import Config, changed, load_config

from ..ledger.folder import current_files
from ..simulation.ledger import read_ledger
from ..simulation.run import Side, Simulation
from .harness import Bench, Goal, Say
from .ledger import two_sums
from .made_up import made_up_ledger

_GOAL_S = 60.0
_WHAT_IF = {"categories": {"support": {"similarity": 0.97, "exact_ttl_s": 3600}, "chat": {"tier": "medium"}}}


@contextmanager
def bench(rows: int, say: Say) -> Iterator[Bench]:
    """A ledger of so many replies over 90 days, read and simulated under its own settings and under others."""
    with made_up_ledger(rows, say) as root:
        files = current_files(root)
        sides = {
            "two sums": lambda: two_sums(files),
            "simulation": lambda: _simulation(root, load_config()),
        }
        goal = Goal(side="simulation", metric="query_s", at_most=_GOAL_S, of="figure")
        yield Bench(sides, (goal,), {"replies": float(rows)})


def _simulation(root: Path, config: Config) -> Mapping[str, float]:
    began = time.perf_counter()
    found = read_ledger(root, config)
    read_s = time.perf_counter() - began
    simulation = Simulation(found.traffic, found.behaviour, found.recorded, lambda _: None)
    other = Side(config=changed(config, _WHAT_IF))
    outcome = simulation.run("a ledger", Side(config=config), other, [], max_loss=0.0, first=1)
    taken_s = {"query_s": time.perf_counter() - began, "read_s": read_s}
    return taken_s | {f"{side.replace(' ', '_')}_s": side_s for side, side_s in outcome.took_s.items()}
