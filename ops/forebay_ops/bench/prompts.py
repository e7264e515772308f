"""The prompts of the benchmarks: made up for a support desk, varied in length, the same for the same seed."""

import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

from forebay_jobs.reuse.eligibility import is_time_sensitive, is_user_specific
from forebay_schemas.records import Message, Request

_PRODUCTS = ("the MR-500 pump", "the pond filter", "the UV clarifier", "the rain barrel", "the skimmer", "the hose set")
_PROBLEMS = (
    "loses pressure after a few minutes",
    "hums but moves no water",
    "leaks at the lower seal",
    "switches itself off at noon",
    "was delivered without its power supply",
    "shows the error E4 since the last storm",
)
_QUESTIONS = (
    "What should I check first?",
    "Is that covered by the warranty?",
    "How do I repair it myself?",
    "How do I send it back?",
    "Which spare part do I need, and what does it cost?",
)
_DETAILS = (
    "I bought it in {month} in your shop in {city}.",
    "It stands {number} metres from the house, in the shade of an old pear tree.",
    "My neighbour has the same one and never had any trouble in {number} years.",
    "I have cleaned the rotor, changed the fuse and read the manual up to page {number}.",
    "The order number is {number}{number}-{number}, if that helps you to find it.",
    "We leave for {city} in {month}, so that it has to work until then.",
)
_MONTHS = ("March", "April", "June", "August", "October")
_CITIES = ("Bremen", "Ghent", "Basel", "Aarhus", "Graz")
_MOST_DETAILS = 8

SYSTEM = "You are the support desk of a shop for garden pumps. Answer briefly and politely."

_NOTES = (
    "Customer {name} from {city} called on {day} {month} about order {number}: {product} {problem}.",
    "{name}, {city}. Received {product} on {day} {month}, order {number}. It {problem}.",
    "On {day} {month} we got a letter from {name} in {city}. Order {number}, {product}, which {problem}.",
)
_NAMES = ("Ada Brandt", "Luc Peeters", "Mia Keller", "Jens Holm", "Eva Gruber")


def questions(count: int, seed: int) -> list[str]:
    """Questions of one to ten sentences."""
    draw = random.Random(seed)
    return [_question(draw) for _ in range(count)]


def reusable(count: int, seed: int) -> list[str]:
    """Different questions whose answers may be given again: none asks for the customer's own order, or for the day."""
    draw, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        question = _question(draw)
        if not is_user_specific(question) and not is_time_sensitive(question):
            found[question] = None
    return list(found)


def notes(count: int, seed: int) -> list[str]:
    """Short notes about a customer's complaint, from which fields can be extracted."""
    draw = random.Random(seed)
    return [_filled(draw.choice(_NOTES), draw) for _ in range(count)]


def handbook(words: int, seed: int) -> str:
    """A system prompt of about so many words, another one for another seed from the first word on."""
    draw = random.Random(seed)
    text = f"Desk {seed}: {SYSTEM} These cases have been solved."
    while len(text.split()) < words:
        text += f" {_question(draw)}"
    return text


def asked(texts: Sequence[str], system: str = SYSTEM, **fields: Any) -> list[Request]:
    """Requests that ask these texts now; ``fields`` are more fields of every one."""
    created_ms = int(time.time() * 1000)
    return [
        Request(
            request_id=uuid.uuid4().hex,
            tenant="bench",
            created_ms=created_ms,
            static_messages=[Message(role="system", content=system)],
            messages=[Message(role="user", content=text)],
            **fields,
        )
        for text in texts
    ]


def _question(draw: random.Random) -> str:
    details = [_filled(draw.choice(_DETAILS), draw) for _ in range(draw.randint(0, _MOST_DETAILS))]
    begin = f"{draw.choice(_PRODUCTS).capitalize()} {draw.choice(_PROBLEMS)}."
    return " ".join([begin, *details, draw.choice(_QUESTIONS)])


def _filled(template: str, draw: random.Random) -> str:
    return template.format(
        name=draw.choice(_NAMES),
        city=draw.choice(_CITIES),
        month=draw.choice(_MONTHS),
        day=draw.randint(1, 28),
        number=draw.randint(2, 99),
        product=draw.choice(_PRODUCTS),
        problem=draw.choice(_PROBLEMS),
    )
