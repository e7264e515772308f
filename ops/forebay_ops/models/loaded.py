"""The process that loads one model, does one job with it and ends, so that the next finds the memory free.

Run as ``python -m forebay_ops.models.loaded``: the job comes on standard input, and lines of JSON go to standard
output (``jobs.Told``). What vLLM writes goes to standard error.
"""

import os
import sys
from asyncio import run
from collections.abc import Callable

import msgspec
from forebay_schemas.config import Config, load_config
from forebay_schemas.errors import ForebayError
from forebay_workers.backends import create

from .answering import answer_all
from .jobs import Answered, AnswerJob, Doing, Failed, Job, Perplexity, Told
from .perplexity import measure_perplexity


def main() -> None:
    """Do the job on standard input."""
    # Libraries print what they like: only our own lines may reach the one who reads.
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(told: Told) -> None:
        channel.write(msgspec.json.encode(told) + b"\n")

    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        tell(_do(job, job.subject.configured(load_config()), lambda what: tell(Doing(what))))
    except ForebayError as error:
        tell(Failed(str(error), more_in_log=error.__cause__ is not None))


def _do(job: Job, config: Config, doing: Callable[[str], None]) -> Answered | Perplexity:
    name = job.subject.name
    if isinstance(job, AnswerJob):
        return run(answer_all(create(name, config), job.requests, job.rounds, doing))
    return measure_perplexity(name, config.models[name], job.text, doing)


if __name__ == "__main__":
    main()
