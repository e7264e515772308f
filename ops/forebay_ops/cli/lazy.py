"""A group of commands, each loaded only when it is called."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lies in this package (``module:attribute``), what it does, and the extra that it needs."""

    place: str
    help: str
    extra: str | None = None


class LazyGroup(click.Group):
    """A group that knows its commands by a table."""

    def __init__(self, entries: Mapping[str, Entry], **settings: Any) -> None:
        super().__init__(**settings)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.place.split(":")
        try:
            return getattr(importlib.import_module(f"{__package__}.{module}"), attribute)
        except ModuleNotFoundError as error:
            if entry.extra is None:
                raise
            raise click.ClickException(
                f"`{ctx.command_path} {cmd_name}` needs the package {error.name}; install forebay[{entry.extra}]"
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self._entries.items()])
