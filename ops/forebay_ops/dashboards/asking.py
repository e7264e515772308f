"""Asks a Prometheus what panels show, as Grafana does."""

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from forebay_schemas.errors import ForebayError

from .boards import Query

_TIMEOUT_S = 30.0
_MOST_POINTS = 300
"""Of a line; a panel is some hundred pixels wide."""


@dataclass(frozen=True, slots=True)
class Line:
    """A series of values by the legend's name; NaN where there is none that could be drawn."""

    name: str
    values: Sequence[float]

    @property
    def there(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]


@dataclass(frozen=True)
class Window:
    """The time that is shown.

    Attributes:
        until: UTC, without a zone.
        seconds: how long it is.
        scrape_s: seconds between scrapes; nothing is asked for more often.
    """

    until: dt.datetime
    seconds: float
    scrape_s: float

    @cached_property
    def step_s(self) -> float:
        return max(self.scrape_s, self.seconds / _MOST_POINTS)

    @cached_property
    def times(self) -> list[dt.datetime]:
        count = math.floor(self.seconds / self.step_s)
        return [self.until - dt.timedelta(seconds=self.step_s * back) for back in range(count, -1, -1)]

    def filled_in(self, expression: str) -> str:
        """An expression with Grafana's variables replaced as Grafana does."""
        rate_s = max(self.step_s + self.scrape_s, 4 * self.scrape_s)
        return expression.replace("$__rate_interval", _span(rate_s)).replace("$__range", _span(self.seconds))


class Prometheus:
    """The HTTP API of one server."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def lines(self, query: Query, window: Window) -> Iterator[Line]:
        """The lines of an expression; one value each where it is asked for at one moment.

        Raises:
            ForebayError: the server does not answer, or does not accept the expression.
        """
        end, expression = window.times[-1].replace(tzinfo=dt.UTC), window.filled_in(query.expr)
        if query.instant:
            for series in self._ask("query", query=expression, time=end.timestamp()):
                yield Line(_named(query, series), [_value(series["value"][1])])
            return
        begin_s = window.times[0].replace(tzinfo=dt.UTC).timestamp()
        asked = {"start": begin_s, "end": end.timestamp(), "step": window.step_s}
        for series in self._ask("query_range", query=expression, **asked):
            values = [math.nan] * len(window.times)
            for at_s, value in series["values"]:
                values[round((at_s - begin_s) / window.step_s)] = _value(value)
            yield Line(_named(query, series), values)

    def _ask(self, what: str, **arguments: Any) -> list[dict[str, Any]]:
        try:
            with urlopen(f"{self._url}/api/v1/{what}?{urlencode(arguments)}", timeout=_TIMEOUT_S) as answer:
                return json.load(answer)["data"]["result"]
        except HTTPError as error:
            raise ForebayError(f"{self._url} does not answer {arguments['query']}: {error.read().decode()}") from None
        except (OSError, ValueError, KeyError) as error:
            raise ForebayError(
                f"--prometheus: {self._url} does not answer as a Prometheus does ({error}); give its address, such as"
                " http://localhost:9090"
            ) from None


def _named(query: Query, series: dict[str, Any]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: series["metric"].get(label[1], ""), query.legend_format)


def _value(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else math.nan


def _span(seconds: float) -> str:
    return f"{round(1000 * seconds)}ms"
