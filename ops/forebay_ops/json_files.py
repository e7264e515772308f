"""Figures as JSON files that people can read too."""

from pathlib import Path
from typing import Any

import msgspec


def write_json(file: Path, figures: Any, indent: int = 2) -> None:
    """Write what msgspec can encode.

    Args:
        indent: spaces a level; 0: all in one line.
    """
    file.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=indent) + b"\n")
