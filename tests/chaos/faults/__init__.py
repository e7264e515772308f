"""Every fault, in the order in which they are injected."""

from . import clocks, disks, freezes, kills, links, stores, workers

EVERY = (*kills.FAULTS, *workers.FAULTS, *freezes.FAULTS, *stores.FAULTS, *links.FAULTS, *disks.FAULTS, *clocks.FAULTS)

SHORT = (
    "kill -9 worker, mid-commit",
    "kill -9 TaskManager",
    "kill -9 JobManager",
    "kill -9 broker",
    "kill -9 Redis",
    "kill -9 client",
)
"""The most telling ones, for every run of the tests."""
