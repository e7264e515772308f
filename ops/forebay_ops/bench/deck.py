"""What a load test asks, and what must come back: a file that load generator and checker read."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec
from forebay_schemas.codec import Codec
from forebay_schemas.records import Request

_RUN_CHARS, _NUMBER_CHARS = 8, 24
BLANK = "0" * (_RUN_CHARS + _NUMBER_CHARS)
"""The id of a request on a card; in its place goes that of the request that is sent, which is as long."""

_runs = itertools.count(1)


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and its right answer.

    Attributes:
        request: encoded, with the id ``BLANK``.
        answer: the text of the only right answer; None: any answer is right, but no error.
    """

    request: bytes
    answer: str | None = None

    def asked_as(self, request_id: str) -> bytes:
        """The request with an id of its own."""
        return self.request.replace(BLANK.encode(), request_id.encode(), 1)


class Deck(msgspec.Struct, frozen=True, kw_only=True):
    """The cards that a load is drawn from, in their order.

    Attributes:
        tenant: of all of them.
        echoed: whether what must come back is the request itself.
        over_and_over: whether it begins again where it ends; else a load that needs more fails.
    """

    cards: list[Card]
    tenant: str
    echoed: bool = False
    over_and_over: bool = True

    def card(self, number: int) -> Card:
        """The card of the request of this number."""
        return self.cards[number % len(self.cards)]

    def write(self, file: Path) -> None:
        """Write it for other processes."""
        file.write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, file: Path) -> "Deck":
        """What ``write`` wrote."""
        return msgspec.msgpack.decode(file.read_bytes(), type=cls)


def deck(
    requests: Sequence[Request], answers: Sequence[str | None], *, echoed: bool = False, over_and_over: bool = True
) -> Deck:
    """The deck of these requests, whatever their ids are."""
    codec = Codec()
    cards = [
        Card(request=codec.encode(msgspec.structs.replace(request, request_id=BLANK)), answer=answer)
        for request, answer in zip(requests, answers, strict=True)
    ]
    return Deck(cards=cards, tenant=requests[0].tenant, echoed=echoed, over_and_over=over_and_over)


def new_run() -> int:
    """Names a run among all of this process, so that the ids of its requests are theirs alone."""
    return next(_runs)


def request_id(run: int, number: int) -> str:
    """The id of a run's request."""
    return f"{run:0{_RUN_CHARS}x}{number:0{_NUMBER_CHARS}x}"


def number_in(key: bytes | None, run: int) -> int | None:
    """Which request of a run has this id; None where it is another run's."""
    if key is None or key[:_RUN_CHARS] != f"{run:0{_RUN_CHARS}x}".encode():
        return None
    return int(key[_RUN_CHARS:], 16)
