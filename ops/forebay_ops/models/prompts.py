"""The prompts on which two models are compared: lines of JSON, each a request with its task and maybe its answer."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError, InvalidRequest, RecordError
from forebay_schemas.records import Lane, Request
from forebay_schemas.tiers import TierConfig
from forebay_schemas.validation import validate
from forebay_workers.backends import GenerationRequest
from forebay_workers.generation import generation_request

from ..request_lines import LineError, numbered, parse_object, request_of

Compare = Literal["equal", "tokens"]
"""How answers of a task are compared: equal or not, or by the share of tokens they have in common."""

SEED = 0


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One line.

    Attributes:
        line: its number in the file.
        answer: the right answer, where it is known.
    """

    line: int
    task: str
    request: GenerationRequest
    answer: str | None = None
    compare: Compare = "equal"

    @property
    def wants_json(self) -> bool:
        return self.request.response_format is not None


class NoPrompts(ForebayError):
    """There is nothing to compare the models on."""


def read_prompts(lines: Iterable[bytes], config: Config, max_tokens: int) -> list[Prompt]:
    """The prompts of a file, in order.

    A line holds the fields of a request (``prompt`` is short for ``messages`` of one user turn) and ``task``,
    ``answer``, ``compare``. Whatever it says about sampling, the models answer greedily.

    Args:
        max_tokens: most tokens of an answer, where a line does not say.

    Raises:
        LineError: a line cannot be used.
        NoPrompts: the file holds none.
    """
    prompts: list[Prompt] = []
    for number, line in numbered(lines):
        try:
            prompts.append(_prompt(number, parse_object(line), config, max_tokens))
        except RecordError as error:
            raise LineError(number, error) from None
    if not prompts:
        raise NoPrompts('the file holds no prompts; give lines such as {"task": "qa", "prompt": "..."}')
    _check_tasks(prompts)
    return prompts


def _prompt(number: int, fields: dict[str, Any], config: Config, max_tokens: int) -> Prompt:
    task = _text(fields, "task", "name the kind of work, such as classification")
    if not task:
        raise InvalidRequest("task", "is absent", "name the kind of work, such as classification")
    answer = _text(fields, "answer", "give the right answer as text")
    compare = fields.pop("compare", "equal")
    if compare not in get_args(Compare):
        raise InvalidRequest("compare", f"is {compare!r}", f"use one of {', '.join(get_args(Compare))}")
    if "prompt" in fields:
        if "question" in fields:
            raise InvalidRequest("prompt", "says the same as question, which is given too", "leave one of them out")
        fields["question"] = _text(fields, "prompt", "give the user's question as text, or messages")
    request, _ = request_of(fields, tenant="default")
    validate(request, config)
    return Prompt(
        line=number,
        task=task,
        request=_generation(number, request, max_tokens),
        answer=answer,
        compare=compare,
    )


def _text(fields: dict[str, Any], name: str, mend: str) -> str | None:
    value = fields.pop(name, None)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(name, f"is {type(value).__name__}, not text", mend)
    return value


def _generation(number: int, request: Request, max_tokens: int) -> GenerationRequest:
    """As a worker asks it, for a tier that adds nothing; greedily."""
    tier = TierConfig(complexity_up_to=1.0, model="", max_tokens=request.max_tokens or max_tokens)
    asked = generation_request(f"line-{number}", request, tier, Lane.INTERACTIVE)
    return dataclasses.replace(asked, temperature=0.0, top_p=1.0, seed=SEED)


def _check_tasks(prompts: Sequence[Prompt]) -> None:
    """A task is judged in one way, so its lines must agree on it."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        other = first.setdefault(prompt.task, prompt)
        if prompt.compare != other.compare:
            problem = f"compare: is {prompt.compare}, but {other.compare} on line {other.line} of the same task"
            raise LineError(prompt.line, f"{problem}; use one for all lines of a task, or two tasks")
        if (prompt.answer is None) != (other.answer is None):
            has, lacks = ("has none", "has one") if prompt.answer is None else ("has one", "has none")
            problem = f"answer: this line {has}, but line {other.line} of the same task {lacks}"
            raise LineError(prompt.line, f"{problem}; give one on all lines of a task or on none, or use two tasks")
