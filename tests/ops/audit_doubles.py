"""Doubles for the audit's tests: an embedder that counts words, and lines of a log."""

import json
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from forebay_ops.audit.accounting import Audit
from forebay_ops.audit.questions import Questions
from forebay_ops.audit.reading import Call, LogReader
from forebay_schemas.config import Config, load_config
from forebay_schemas.records import Usage
from forebay_schemas.tiers import Price

from tests.builders import NOW_MS, make_request

MODEL = "house-model"
PRICES = {MODEL: Price(input_per_1k=1.0, output_per_1k=2.0)}
USAGE = {"prompt_tokens": 100, "completion_tokens": 50}
COST = 0.2
"""Dollars of a call with this usage at these prices."""


class WordCounter:
    """A vector has a place for each word: texts of the same words in another order are the same by meaning.

    Attributes:
        batches: how many texts each call has embedded.
    """

    dimensions = 64

    def __init__(self) -> None:
        self.batches: list[int] = []
        self._places: dict[str, int] = {}

    def grasps(self, texts: Sequence[str]) -> list[bool]:
        return ["ungraspable" not in text for text in texts]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(len(texts))
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                vector[self._places.setdefault(word, len(self._places)) % self.dimensions] += 1
            vector /= np.linalg.norm(vector)
        return vectors


def make_call(question: str, /, at_s: float | None = None, *, complete: bool = True, **fields: Any) -> Call:
    """A call that costs ``COST``; ``fields`` are of its request."""
    usage = fields.pop("usage", Usage(**USAGE))
    request = make_request(question, **fields)
    return Call(request=request, model=MODEL, usage=usage, at_s=at_s, complete=complete)


def audited(
    calls: Iterable[Call],
    *,
    config: Config | None = None,
    embedder: WordCounter | None = None,
    most: int = 1000,
    batch: int = 512,
    most_digests: int = 1000,
) -> Audit:
    """The calls, taken in batches; without an embedder nothing is compared by meaning."""
    audit = Audit(config or load_config(), PRICES, Questions(embedder, most, keep_texts=True), most_digests)
    calls = list(calls)
    for start in range(0, len(calls), batch):
        audit.take(calls[start : start + batch])
    return audit


def line(question: str = "How do I return a parcel?", **fields: Any) -> dict[str, Any]:
    """A flat line of a log."""
    return {"model": MODEL, "messages": [{"role": "user", "content": question}], "usage": USAGE, **fields}


def read(*lines: Any, category: str | None = None) -> tuple[list[Call], LogReader]:
    """Read lines, given as objects or as text."""
    text = "\n".join(item if isinstance(item, str) else json.dumps(item) for item in lines)
    reader = LogReader(load_config(), tenant="acme", category=category)
    return list(reader.calls("calls.jsonl", BytesIO(text.encode()))), reader


AT_S = NOW_MS / 1000
