"""Times on the command line: spans before now, and dates in UTC."""

import datetime as dt
import re
from typing import Any

import click

_SPAN = re.compile(r"(\d+)([hdw])")
_UNITS = {"h": dt.timedelta(hours=1), "d": dt.timedelta(days=1), "w": dt.timedelta(weeks=1)}
_DAY = dt.timedelta(days=1)


class Moment(click.ParamType):
    """A time span before now, or a date in UTC: its beginning, or its end."""

    name = "7d|DATE"

    def __init__(self, whole_day: bool) -> None:
        self._after = _DAY if whole_day else dt.timedelta()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        try:
            if span := _SPAN.fullmatch(str(value)):
                return now() - int(span[1]) * _UNITS[span[2]]
            return dt.datetime.combine(dt.date.fromisoformat(str(value)), dt.time()) + self._after
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; give one such as 24h, 7d, 4w or 2026-11-21", param, ctx)


def now() -> dt.datetime:
    """UTC, without a zone as the ledger's times."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
