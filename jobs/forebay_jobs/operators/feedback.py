"""The operator of feedback: it teaches what decides on reuse."""

from collections.abc import Iterator
from typing import Any

from forebay_schemas.config import Config
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext

from forebay_jobs.feedback import Complaints
from forebay_jobs.runtime import runtime_for

from .rows import now_ms, outgoing_row, raw_bytes


class FeedbackOperator(ProcessFunction):
    """Rows of the feedback topics in; events out."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime = runtime_for(self._config)
        with runtime.locked():
            self._complaints = Complaints(self._config, runtime.codec, runtime.teacher)

    def process_element(self, value: Any, ctx: Any) -> Iterator[Row]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for record in self._complaints.take(value.topic, raw_bytes(value.value), now_ms()):
            yield outgoing_row(record)
