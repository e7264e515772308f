"""Every fault, in the order in which they are injected."""

from . import clocks, disks, freezes, kills, links, stores, topics, upgrades, versions, workers

EVERY = (
    *kills.FAULTS,
    *workers.FAULTS,
    *freezes.FAULTS,
    *stores.FAULTS,
    *topics.FAULTS,
    *upgrades.FAULTS,
    *versions.FAULTS,
    *links.FAULTS,
    *disks.FAULTS,
    *disks.INDEX,
    *clocks.FAULTS,
)

FROM_OLDER = upgrades.FROM_OLDER

SHORT = (
    "kill -9 worker, mid-commit",
    "kill -9 TaskManager",
    "kill -9 JobManager",
    "kill -9 broker",
    "kill -9 Redis",
    "kill -9 client",
    "request topic deleted and made anew",
)
"""The most telling ones, for every run of the tests."""
