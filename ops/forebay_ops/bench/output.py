"""How many tokens a tier does not generate that limits its answers, asks for short ones, stops them, or wants JSON."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from forebay_schemas.records import Request

from . import prompts
from .harness import Bench, Say
from .process import Process
from .rig import rig, tier
from .traffic import Replies, Seen, Tasks
from .worker import settings

_UNCONSTRAINED = 256
"""What a request may take where nobody limits it; ends an answer that would not end by itself."""
_SYSTEM = "You are a helpful assistant of a shop for garden pumps."
_EXTRACT = (
    "Extract the fields customer, city, product and problem from this note of the shop, as a JSON object of these four"
    " fields and nothing else.\n\nNote: "
)
_ASKED = 16
"""Questions, and as many notes."""

# The rungs of one ladder must differ in complexity_up_to; the tasks are sent to them by name here.
_TIERS: dict[str, dict[str, Any]] = {
    "unconstrained": {"complexity_up_to": 0.2, "max_tokens": _UNCONSTRAINED},
    "limit": {"complexity_up_to": 0.4, "max_tokens": 96},
    "directive": {
        "complexity_up_to": 0.6,
        "max_tokens": _UNCONSTRAINED,
        "length_directive": "Answer in at most two short sentences.",
    },
    "stop": {"complexity_up_to": 0.8, "max_tokens": _UNCONSTRAINED, "stop": ["\n\n"]},
    "all three": {"max_tokens": 96, "length_directive": "Answer in at most two short sentences.", "stop": ["\n\n"]},
}
_SCHEMA = {
    "type": "object",
    # Without bounds a small model may go on within a text until the limit ends it.
    "properties": {name: {"type": "string", "maxLength": 60} for name in ("customer", "city", "product", "problem")},
    "required": ["customer", "city", "product", "problem"],
    "additionalProperties": False,
}
_FORMATS = {
    "unconstrained": None,
    "JSON mode": {"type": "json_object"},
    "JSON schema": {"type": "json_schema", "json_schema": {"name": "note", "schema": _SCHEMA}},
}


@contextmanager
def bench(model: str, say: Say) -> Iterator[Bench]:
    """One worker with a tier for each means, asked the same questions; and notes to extract fields from."""
    with rig(say) as it:
        tiers = {_name(side): tier(**limits) for side, limits in _TIERS.items()}
        config = it.installation(**settings(it, model) | {"tiers": tiers})
        worker = it.worker(config)
        with Replies(config) as replies:
            asking = _Asking(Tasks(config), replies, worker)
            answers = {side: (lambda side=side: asking.questions(side)) for side in _TIERS}
            extracts = {f"extract, {side}": (lambda side=side: asking.notes(side)) for side in _FORMATS}
            yield Bench(answers | extracts)


class _Asking:
    def __init__(self, tasks: Tasks, replies: Replies, worker: Process) -> None:
        self._tasks = tasks
        self._replies = replies
        self._worker = worker

    def questions(self, side: str) -> dict[str, float]:
        """Tokens of an answer on average, and how many answers met the limit before their end."""
        replies = self._asked(prompts.asked(prompts.questions(_ASKED, seed=1), _SYSTEM), _name(side))
        return {"answer_tokens": _mean_tokens(replies), "answers_cut_off": cut_off(replies)}

    def notes(self, side: str) -> dict[str, float]:
        """The same of extractions, and how many of them are JSON with all fields."""
        form = _FORMATS[side]
        texts = [_EXTRACT + note for note in prompts.notes(_ASKED, seed=1)]
        fields = {} if form is None else {"response_format": json.dumps(form)}
        replies = self._asked(prompts.asked(texts, _SYSTEM, **fields), "unconstrained")
        return {
            "extract_tokens": _mean_tokens(replies),
            "extracts_cut_off": cut_off(replies),
            "extracts_valid": valid(replies),
        }

    def _asked(self, requests: list[Request], tier_name: str) -> Mapping[str, Seen]:
        self._tasks.send(requests, tier_name)
        return self._replies.take([request.request_id for request in requests], self._worker.check)


def cut_off(replies: Mapping[str, Seen]) -> float:
    """The share of the answers that the limit ended."""
    return sum(one.reply.finish_reason == "length" for one in replies.values()) / len(replies)


def valid(replies: Mapping[str, Seen]) -> float:
    """The share of the answers that are JSON objects with all the fields asked for."""
    return sum(_has_fields(one.reply.text) for one in replies.values()) / len(replies)


def _mean_tokens(replies: Mapping[str, Seen]) -> float:
    return sum(one.reply.usage.completion_tokens for one in replies.values()) / len(replies)


def _has_fields(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() >= set(_SCHEMA["required"])


def _name(side: str) -> str:
    return side.replace(" ", "-")
