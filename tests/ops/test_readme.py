"""What the README shows works: its settings load, its commands exist with the options it gives them."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest
from forebay_ops.cli import forebay
from forebay_schemas.config import load_config

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for language, block in BLOCKS
        if language == ""
        for line in block.splitlines()
        if line.startswith("forebay ")
    }
)


def test_its_settings_load(tmp_path: Path) -> None:
    blocks = [block for language, block in BLOCKS if language == "toml"]
    assert blocks
    for block in blocks:
        file = tmp_path / "forebay.toml"
        file.write_text(block)
        load_config(file)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_exist(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("requests.jsonl", "trace.jsonl", "questions.jsonl"):
        (tmp_path / file).touch()
    name, *arguments = shlex.split(line)[1:]
    command = forebay.get_command(click.Context(forebay), name)
    assert command is not None
    command.make_context(name, arguments)  # raises what the command line would say


def test_its_python_compiles() -> None:
    for language, block in BLOCKS:
        if language == "python":
            compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
