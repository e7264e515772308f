"""The `forebay` command: one table of its subcommands, each loaded only when it is called."""

import importlib
import sys
from dataclasses import dataclass

import click
from forebay_schemas.errors import ForebayError


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a subcommand lies, what it does, and the extra of the installation that it needs."""

    place: str
    help: str
    extra: str | None = None


# Loaded late, so that `forebay ask` needs neither Flink nor torch and starts at once.
_COMMANDS = {
    "demo": _Entry("demo:demo", "Start the whole system here, play a support desk's requests, stop it.", "local"),
    "up": _Entry("stack:up", "Start the local stack and keep it running.", "local"),
    "down": _Entry("stack:down", "Stop the local stack.", "local"),
    "status": _Entry("stack:status", "Show what runs of the local stack.", "local"),
    "logs": _Entry("stack:logs", "Show what the parts of the local stack have written.", "local"),
    "top": _Entry("top:top", "Show what the pipeline does now."),
    "ask": _Entry("client:ask", "Ask one question and print the answer."),
    "cancel": _Entry("client:cancel", "Take a request back."),
    "feedback": _Entry("client:feedback", "Say whether an answer was good."),
    "send": _Entry("client:send", "Publish requests from a file."),
    "tail": _Entry("client:tail", "Follow the replies."),
    "config": _Entry("parts:config", "Print the configuration that holds."),
    "topics": _Entry("parts:topics", "Create the topics."),
    "job": _Entry("parts:job", "Run the streaming job on its Flink cluster.", "jobs"),
    "worker": _Entry("parts:worker", "Run a worker of one or more tiers.", "workers-cpu"),
    "ledger": _Entry("ledger:ledger", "Keep every reply, and feedback, in Parquet files.", "reports"),
    "report": _Entry("report:report", "Show where the money went, and what saved it.", "reports"),
    "replay": _Entry("replay:replay", "Play recorded or public traffic through the pipeline.", "reports"),
    "acceptance": _Entry("replay:acceptance", "Play a support desk's traffic, and judge it by goals.", "reports"),
    "bench": _Entry("bench:bench", "Measure what this costs and saves, beside a baseline.", "local"),
    "reuse": _Entry("reuse:reuse", "Look at what was answered from the cache by meaning, and why.", "jobs"),
    "eval": _Entry("eval:eval_", "Measure how well reuse keeps its promise.", "local"),
    "validate-model": _Entry(
        "validate_model:validate_model", "Compare a quantised model with its original.", "workers-http"
    ),
    "plan": _Entry("plan:plan", "Work out what a bill would be under other assumptions."),
    "audit": _Entry("audit:audit", "Read a call log, and tell what Forebay would save.", "local"),
    "check-prompts": _Entry("check_prompts:check_prompts", "Find what keeps prompts out of prefix caches."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.place.split(":")
        try:
            return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
        except ModuleNotFoundError as error:
            if entry.extra is None:
                raise
            raise click.ClickException(
                f"`forebay {cmd_name}` needs the package {error.name}; install forebay[{entry.extra}]"
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _COMMANDS.items()])


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
