"""Log lines: an error's place and kind, its text only where that is asked for, and what a hook makes of all."""

import io
import logging
from collections.abc import Callable, Iterator

import pytest
from forebay_schemas.errors import ConfigError
from forebay_schemas.logs import LogLines
from forebay_schemas.sections import LogsConfig

PROMPT = "canary-prompt"


def mask(line: str) -> str:
    """A hook as an installation may have one."""
    return line.replace("ada@example.org", "***")


def broken(line: str) -> str:
    """A hook that quotes what it cannot work on."""
    raise ValueError(line)


@pytest.fixture
def said() -> Iterator[Callable[..., str]]:
    """What a process writes that meets a defect, and had another handler write it before."""
    logger = logging.getLogger("a process")
    logger.propagate = False

    def say(settings: LogsConfig, before: logging.Formatter | None = None) -> str:
        streams = [io.StringIO() for _ in range(2)]
        for stream, formatter in zip(streams, (before or logging.Formatter(), LogLines(settings)), strict=True):
            handler = logging.StreamHandler(stream)
            handler.setFormatter(formatter)
            logger.addHandler(handler)
        try:
            try:
                int(PROMPT)
            except ValueError as error:
                raise KeyError(PROMPT) from error
        except KeyError:
            logger.exception("a request of %s is given up on a defect", "ada@example.org")
        assert PROMPT in streams[0].getvalue()
        return streams[1].getvalue()

    yield say
    logger.handlers.clear()


def test_an_error_is_told_without_its_text_and_that_of_its_cause(said: Callable[..., str]) -> None:
    line = said(LogsConfig())
    assert PROMPT not in line
    assert "a request of ada@example.org is given up on a defect" in line
    assert "builtins.ValueError (its text is left out: logs.texts)" in line
    assert line.index("builtins.ValueError") < line.index("builtins.KeyError")
    assert "test_logs.py" in line


def test_the_text_is_there_where_it_is_asked_for(said: Callable[..., str]) -> None:
    assert PROMPT in said(LogsConfig(texts=True))


def test_each_line_passes_through_the_hook(said: Callable[..., str]) -> None:
    line = said(LogsConfig(texts=True, redact=f"{__name__}:mask"))
    assert "a request of *** is given up" in line


def test_a_line_on_which_the_hook_fails_is_left_out(
    said: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(LogsConfig(texts=True, redact=f"{__name__}:broken"))
    assert line == "ERROR a process: a line is left out, as logs.redact failed on it: builtins.ValueError\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["nowhere:mask", f"{__name__}:nothing", "no name at all"])
def test_a_hook_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"logs\.redact: .* cannot be loaded"):
        LogLines(LogsConfig(redact=name))
