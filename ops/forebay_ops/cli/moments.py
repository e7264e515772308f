"""Times on the command line: spans before now, and dates and times in UTC."""

import datetime as dt
import re
from typing import Any

import click

_SPAN = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY = dt.timedelta(days=1)


class Moment(click.ParamType):
    """A time span before now, a time, or a date: its beginning, or its end. In UTC where no zone is given."""

    name = "7d|DATE"

    def __init__(self, whole_day: bool = False) -> None:
        self._after = _DAY if whole_day else dt.timedelta()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dt.datetime:
        text = str(value)
        try:
            if span := _SPAN.fullmatch(text):
                return now() - dt.timedelta(**{_UNITS[span[2]]: int(span[1])})
            if "T" in text:
                time = dt.datetime.fromisoformat(text)
                return time.astimezone(dt.UTC).replace(tzinfo=None) if time.tzinfo else time
            return dt.datetime.combine(dt.date.fromisoformat(text), dt.time()) + self._after
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; give one such as 24h, 7d, 4w, 2026-11-21 or 2026-11-21T16:30", param, ctx)


def now() -> dt.datetime:
    """UTC, without a zone as the ledger's times."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)
