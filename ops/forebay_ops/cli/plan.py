"""`forebay plan`: what a bill would be under other assumptions."""

import click

from .lazy import Entry, LazyGroup

_COMMANDS = {
    "simulate": Entry("plan_simulate:simulate", "Say what would have happened under other settings.", "local"),
    "validate": Entry("plan_validate:validate", "Compare a simulation with the replay of the same trace.", "local"),
    "scenario": Entry("plan_scenario:scenario", "Recompute two published claims of savings."),
}


@click.group(cls=LazyGroup, entries=_COMMANDS)
def plan() -> None:
    """Work out what a bill would be under other assumptions."""
