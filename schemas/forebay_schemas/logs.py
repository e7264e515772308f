"""The log lines of our processes: what failed and where, and no text that a library quotes unless it is asked for."""

import copy
import importlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from .errors import ConfigError
from .sections import LogsConfig

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogLines(logging.Formatter):
    """Formats errors without their texts, as those of libraries quote what they could not work on: a prompt.

    Raises:
        ConfigError: ``logs.redact`` names no function.
    """

    def __init__(self, settings: LogsConfig) -> None:
        super().__init__(_FORMAT)
        self._texts = settings.texts
        self._redact = _function(settings.redact) if settings.redact else None

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_text:  # what another formatter made of the error
            record = copy.copy(record)
            record.exc_text = None
        line = super().format(record)
        if self._redact is None:
            return line
        try:
            return self._redact(line)
        except Exception as error:  # raised on, logging would print the line as it is
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            return f"{record.levelname} {record.name}: a line is left out, as logs.redact failed on it: {kind}"

    def formatException(self, ei: Any) -> str:
        return super().formatException(ei) if self._texts else "".join(_places(ei[1])).rstrip()


def write_logs(settings: LogsConfig) -> None:
    """Write this process's log lines to stderr, as configured. For what is raised see ``LogLines``."""
    logging.basicConfig(level=logging.INFO, handlers=[log_handler(settings)])


def log_handler(settings: LogsConfig) -> logging.Handler:
    """Writes to stderr, also where ``sys.stderr`` was replaced."""
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(LogLines(settings))
    return handler


def _places(error: BaseException | None) -> Iterator[str]:
    """Where an error arose and of which kind it is, after those that led to it."""
    if error is None:
        return
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    yield from _places(before)
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__} (its text is left out: logs.texts)\n"


def _function(name: str) -> Callable[[str], str]:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"logs.redact: {name} cannot be loaded ({error}); give module:function of an installed package"
        ) from None
