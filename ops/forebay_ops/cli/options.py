"""Which installation a command talks to."""

import os
from pathlib import Path

from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ConfigError

from ..local.home import Home, running_config


def cli_config(otherwise: Path | None = None) -> Config:
    """The configuration that ``FOREBAY_CONFIG`` names, else that of the stack running in ``FOREBAY_HOME`` or
    ``./.forebay``, else that in ``otherwise``, else the defaults; the environment's single settings go over each.

    Raises:
        ConfigError: naming each setting that cannot work.
    """
    if os.environ.get("FOREBAY_CONFIG"):
        return load_config()
    file = _running_here() or otherwise
    if file is not None:
        os.environ["FOREBAY_CONFIG"] = str(file)  # also for the processes that a command starts
    return load_config()


def stopped_stack() -> Path | None:
    """The configuration of the stack that ran last in ``FOREBAY_HOME`` or ``./.forebay``; None where none did."""
    home = _home()
    return home.config if home and home.config.is_file() else None


def _running_here() -> Path | None:
    home = _home()
    return running_config(home) if home else None


def _home() -> Home | None:
    try:
        return Home.at()
    except ConfigError:  # the path of this folder is too long for a stack, so none runs in it
        return None
