"""Questions about the machines of a house, each with other wordings of it: near to it, and far from all others."""

import itertools
import random
from dataclasses import dataclass

_ACTS = (
    "clean", "replace", "lubricate", "calibrate", "paint", "insulate", "dismantle", "weld", "test", "label", "lock",
    "polish", "drain", "measure", "disinfect", "glue",
)  # fmt: skip
_PARTS = (
    "filter", "door hinge", "power cable", "glass lid", "drum bearing", "thermostat", "rubber seal", "control panel",
    "drive belt", "spray nozzle", "ash pan", "battery", "carrying handle", "float switch", "cutting blade", "chimney",
)  # fmt: skip
_MACHINES = (
    "dishwasher", "lawn mower", "coffee machine", "pizza oven", "sewing machine", "treadmill", "aquarium",
    "snow blower", "air conditioner", "chainsaw", "electric piano", "wood stove", "garage door", "water softener",
    "hair dryer", "projector", "bread maker", "cement mixer", "sauna heater", "bicycle trailer", "telescope",
    "ice cream maker", "pressure washer", "hearing aid", "wheelchair", "camping stove", "fish smoker", "elevator",
    "greenhouse", "jukebox",
)  # fmt: skip
_ORIGINAL = "How do I {act} the {part} of a {machine}?"
_FORMS = (
    "How can I {act} the {part} of a {machine}", "How do you {act} the {part} of a {machine}",
    "How should I {act} the {part} on a {machine}", "How does one {act} the {part} of a {machine}",
    "What is the way to {act} the {part} of a {machine}", "How to {act} the {part} of a {machine}",
    "How could I {act} the {part} of a {machine}", "How do we {act} the {part} of a {machine}",
    "How can I {act} the {part} on a {machine}", "How do I {act} a {machine}'s {part}",
    "How would I {act} the {part} of a {machine}", "How can you {act} the {part} on a {machine}",
    "How might I {act} the {part} of a {machine}", "How do I {act} the {part} of my {machine}",
    "How do I {act} the {part} of the {machine}", "How can we {act} the {part} of a {machine}",
    "How do I best {act} the {part} of a {machine}", "How can I {act} the {part} of the {machine}",
    "How must I {act} the {part} of a {machine}",
)  # fmt: skip
_ENDINGS = ("?", "? Thank you.", ", please?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, in these words.

    Attributes:
        known: number of the known question that it is a wording of.
    """

    text: str
    known: int


def known(count: int, seed: int) -> list[str]:
    """Different questions, no two of them about the same part of the same machine."""
    return [_ORIGINAL.format(**one) for one in _drawn(count, seed)]


def wordings(count: int, seed: int) -> list[Asked]:
    """Other wordings of the known questions of the same count and seed, all of them, one after the other."""
    drawn = _drawn(count, seed)
    return [
        Asked(form.format(**one) + ending, number)
        for ending in _ENDINGS
        for form in _FORMS
        for number, one in enumerate(drawn)
    ]


def _drawn(count: int, seed: int) -> list[dict[str, str]]:
    draw = random.Random(seed)
    pairs = draw.sample(list(itertools.product(_PARTS, _MACHINES)), count)
    return [{"act": draw.choice(_ACTS), "part": part, "machine": machine} for part, machine in pairs]
