"""The `forebay` command: one table of its subcommands, each loaded only when it is called."""

import sys

import click
from forebay_schemas.errors import ForebayError

from .lazy import Entry, LazyGroup

# Loaded late, so that `forebay ask` needs neither Flink nor torch and starts at once.
_COMMANDS = {
    "demo": Entry("demo:demo", "Start the whole system here, play a support desk's requests, stop it.", "local"),
    "up": Entry("stack:up", "Start the local stack and keep it running.", "local"),
    "down": Entry("stack:down", "Stop the local stack.", "local"),
    "status": Entry("stack:status", "Show what runs of the local stack.", "local"),
    "logs": Entry("stack:logs", "Show what the parts of the local stack have written.", "local"),
    "top": Entry("top:top", "Show what the pipeline does now."),
    "ask": Entry("client:ask", "Ask one question and print the answer."),
    "cancel": Entry("client:cancel", "Take a request back."),
    "invalidate": Entry("invalidate:invalidate", "Let answers hold no longer."),
    "forget": Entry("forget:forget_", "Keep nothing of a tenant, or of one of its users.", "reports"),
    "feedback": Entry("client:feedback", "Say whether an answer was good."),
    "send": Entry("client:send", "Publish requests from a file."),
    "batch": Entry("batch:batch", "Send a file of requests on the batch lane, each row once."),
    "tail": Entry("client:tail", "Follow the replies."),
    "warm": Entry("warm:warm", "Fill the caches ahead, at the price of the batch lane."),
    "config": Entry("parts:config", "Print the configuration that holds."),
    "topics": Entry("parts:topics", "Create the topics."),
    "asyncapi": Entry("asyncapi:asyncapi", "Write what other languages need to read and write the topics.", "local"),
    "acls": Entry("acls:acls", "Say what each role may do on the brokers."),
    "job": Entry("parts:job", "Run the streaming job on its Flink cluster.", "jobs"),
    "worker": Entry("parts:worker", "Run a worker of one or more tiers.", "workers-cpu"),
    "gateway": Entry("gateway:gateway", "Serve OpenAI's HTTP interface in front of the pipeline.", "gateway"),
    "ledger": Entry("ledger:ledger", "Keep every reply, and feedback, in Parquet files.", "reports"),
    "report": Entry("report:report", "Show where the money went, and what saved it.", "reports"),
    "dashboards": Entry("dashboards:dashboards", "Draw the Grafana dashboards without a Grafana.", "reports"),
    "replay": Entry("replay:replay", "Play recorded or public traffic through the pipeline.", "reports"),
    "acceptance": Entry("replay:acceptance", "Play a support desk's traffic, and judge it by goals.", "reports"),
    "bench": Entry("bench:bench", "Measure what this costs and saves, beside a baseline.", "local"),
    "rollout": Entry("rollout:rollout", "Change models, prompts or settings for some first."),
    "reuse": Entry("reuse:reuse", "Look at what was answered from the cache by meaning, and why.", "jobs"),
    "router": Entry("router:router", "Learn which tier will do, measure it, and show why.", "jobs,reports"),
    "eval": Entry("eval:eval_", "Measure how well reuse keeps its promise.", "local"),
    "validate-model": Entry(
        "validate_model:validate_model", "Compare a quantised model with its original.", "workers-http"
    ),
    "parity": Entry("parity:parity", "Say what routing loses against the largest tier for everything.", "local"),
    "plan": Entry("plan:plan", "Work out what a bill would be under other assumptions."),
    "capacity": Entry("capacity:capacity", "Work out how much of everything a load takes."),
    "audit": Entry("audit:audit", "Read a call log, and tell what Forebay would save.", "local"),
    "check-prompts": Entry("check_prompts:check_prompts", "Find what keeps prompts out of prefix caches."),
}


@click.group(cls=LazyGroup, entries=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
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
