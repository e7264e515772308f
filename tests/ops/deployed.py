"""What the deployment files say, in a form that tests can ask: calls of our command line, and how images are built."""

import re
from pathlib import Path

import click
from forebay_ops.cli import forebay

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "ops" / "docker").glob("*.Dockerfile"))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: name and the rest of the line, continued lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def extras(dockerfile: Path) -> set[str]:
    """The extras of ours that an image is built with."""
    text = dockerfile.read_text()
    bracketed = re.findall(r"\.\[([\w,-]+)\]", text)
    return {*re.findall(r"--extra (\S+)", text), *(extra for names in bracketed for extra in names.split(","))}


def take(words: list[str]) -> None:
    """Read a call as the command line would, without the leading `forebay` and without running it.

    Raises:
        click.UsageError: what the command line would say.
    """
    command, context, rest = forebay, click.Context(forebay), words.copy()
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, f"forebay {' '.join(words)}: no such command"
        command = found
    if rest != ["--help"]:
        command.make_context("forebay", rest)
