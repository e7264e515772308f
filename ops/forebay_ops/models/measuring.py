"""Has a job done by a process of its own, and passes on what it tells."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

import msgspec
from forebay_schemas.errors import ForebayError

from . import loaded
from .jobs import Answered, AnswerJob, Doing, Failed, Perplexity, PerplexityJob, Told

_TAIL_BYTES = 3_000


class MeasuringFailed(ForebayError):
    """A model cannot be measured; the message says why."""


def answers_of(job: AnswerJob, doing: Callable[[str], None]) -> Answered:
    """The answers and the speed of a model.

    Raises:
        MeasuringFailed: see the message.
    """
    done = _measure(job, doing)
    assert isinstance(done, Answered)
    return done


def perplexity_of(job: PerplexityJob, doing: Callable[[str], None]) -> Perplexity:
    """The perplexity of a text for a model.

    Raises:
        MeasuringFailed: see the message.
    """
    done = _measure(job, doing)
    assert isinstance(done, Perplexity)
    return done


def _measure(job: AnswerJob | PerplexityJob, doing: Callable[[str], None]) -> Answered | Perplexity:
    name = job.subject.name
    with (
        tempfile.TemporaryFile("a+b") as log,  # appending: the process shares the place in it
        # A session of its own, so that the engine's processes can be ended with it.
        subprocess.Popen(
            [sys.executable, "-m", loaded.__name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            with process.stdin:
                process.stdin.write(msgspec.json.encode(job))
            for line in process.stdout:
                match msgspec.json.decode(line, type=Told):
                    case Doing(what):
                        doing(f"{name}: {what}")
                    case Failed(why, more_in_log):
                        raise MeasuringFailed(f"{why}\n{_tail(log)}" if more_in_log else why)
                    case done:
                        return done
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    raise MeasuringFailed(f"{name}: the process that loads it has ended with code {process.returncode}:\n{_tail(log)}")


def _tail(log: BinaryIO) -> str:
    """The end of what the process wrote, most of it vLLM's."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
    return log.read().decode(errors="replace").strip()
