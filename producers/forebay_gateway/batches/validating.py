"""What is wrong with a file of requests, line by line, before anything of it is sent.

As with OpenAI, a line that is no request fails its batch, and a request whose body asks for what cannot be done is
refused alone, in the batch's error file.
"""

from collections.abc import Callable
from pathlib import Path

from forebay_client.batch.errors import RepeatedName
from forebay_client.batch.options import RowOptions
from forebay_client.batch.rows import open_source
from forebay_client.batch.survey import survey
from forebay_schemas.config import Config
from forebay_schemas.errors import ErrorCode, ForebayError, RecordError

from .jobs import Problem

_MOST = 100
"""Problems that are told: whoever made the file mends it by the first."""
_TOLD_EVERY = 1_000
_CODES = {
    "custom_id": "invalid_custom_id",
    "method": "invalid_method",
    "url": "invalid_url",
    "body": "invalid_body",
    "model": "model_not_found",
}
"""By the field of the line that is wrong."""


def problems_of(file: Path, options: RowOptions, config: Config, told: Callable[[int], object]) -> list[Problem]:
    """Why a file is none of requests; nothing where it is one.

    Args:
        told: of the rows that were looked at, now and then.
    """
    source, found = open_source(file, options, config), list[Problem]()
    for row in source.rows():
        if row.problem is not None and (code := _code(row.problem)):
            found.append(_problem(code, row.problem, row.place))
            if len(found) == _MOST:
                return found
        if row.number % _TOLD_EVERY == 0:
            told(row.number)
    if found:
        return found
    try:
        survey(file, source, told)
    except RepeatedName as error:
        return [_problem("duplicate_custom_id", error, error.place)]
    except ForebayError:
        return [Problem("empty_file", "the file has no lines; upload one with a request a line")]
    return []


def _code(problem: RecordError) -> str | None:
    """What OpenAI calls a problem of a line; None where its body alone has it."""
    if problem.code == ErrorCode.MALFORMED:
        return "invalid_json_line"
    return _CODES.get(problem.field or "")


def _problem(code: str, error: RecordError, place: str) -> Problem:
    return Problem(code, str(error), int(place.removeprefix("line ")), error.field)
