"""One replay's names: its requests, their ids, and what keeps it apart from others."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError, RecordError
from forebay_schemas.records import Request
from forebay_schemas.validation import validate

from ..request_lines import request_of
from ..traces.arrivals import Arrival

_OF_THE_RECORDING = ("request_id", "created_ms", "deadline_ms")
"""Fields that belong to the recorded request alone: an id would find its old answer, a deadline has passed."""


class UnusableArrival(ForebayError):
    """A request of a trace cannot be sent; the message tells its number, the field and the mend."""


@dataclass(frozen=True, slots=True)
class Run:
    """One replay.

    Attributes:
        name: unlike that of any other.
        warm: whether answers that the caches hold from before may be reused. Else the run's name is in the prompt
            version of its requests, and so they are equal only to each other.
    """

    name: str
    warm: bool = False

    def request(self, number: int, arrival: Arrival) -> tuple[Request, str | None]:
        """The request of an arrival, made now, and its trace context.

        Args:
            number: its place in the trace, from 1.

        Raises:
            InvalidRequest: a field is unknown or has the wrong type.
        """
        fields = {name: value for name, value in arrival.fields.items() if name not in _OF_THE_RECORDING}
        if not self.warm:
            fields["prompt_version"] = f"replay-{self.name} {fields.get('prompt_version') or ''}".rstrip()
        return request_of(fields | {"request_id": f"replay-{self.name}-{number}"}, tenant=None)

    def number(self, request_id: str | None) -> int | None:
        """The place in the trace of a request of this run; None for any other."""
        prefix, _, number = (request_id or "").rpartition("-")
        return int(number) if prefix == f"replay-{self.name}" else None

    def check(self, arrivals: Sequence[Arrival], config: Config) -> None:
        """See that every arrival makes a request that can be sent.

        Raises:
            UnusableArrival: one does not.
        """
        for number, arrival in enumerate(arrivals, start=1):
            try:
                request, _ = self.request(number, arrival)
                validate(request, config)
            except RecordError as error:
                raise UnusableArrival(f"request {number} of the trace: {error}") from None
