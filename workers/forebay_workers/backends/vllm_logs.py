"""The log lines of vLLM's own processes as ours: by itself it would write them past ``logs``."""

from pathlib import Path

from forebay_schemas.config import load_config
from forebay_schemas.logs import LogLines

DICT_CONFIG = Path(__file__).with_suffix(".json")
"""For Python's ``dictConfig``, which each of those processes applies."""


def lines() -> LogLines:
    """The formatter that ``DICT_CONFIG`` names."""
    return LogLines(load_config().logs)
