"""The `forebay` command: one table of its subcommands, each loaded only when it is called."""

import importlib
import sys

import click
from forebay_schemas.errors import ForebayError

# Loaded late, so that `forebay ask` needs neither Flink nor torch and starts at once.
_COMMANDS = {
    "up": "stack:up",
    "down": "stack:down",
    "status": "stack:status",
    "logs": "stack:logs",
    "demo": "demo:demo",
    "ask": "client:ask",
    "send": "client:send",
    "tail": "client:tail",
    "config": "parts:config",
    "topics": "parts:topics",
    "job": "parts:job",
    "worker": "parts:worker",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name].split(":")
        return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forebay")
def forebay() -> None:
    """Answer LLM requests from caches where possible, and from the cheapest sufficient model where not."""


def main() -> None:
    """Run the command; a known error is one clear message and exit code 1, Ctrl-C is 130."""
    try:
        forebay(standalone_mode=False)
    except ForebayError as error:
        click.secho(f"forebay: {error}", fg="red", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nforebay: stopped", err=True)
        sys.exit(130)
