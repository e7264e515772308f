"""Stands in for models that know the labels of texts: those of one label get one answer, and others get another.

A process of its own, an OpenAI-compatible endpoint: ``python -m forebay_ops.bench.knowing PORT LATENCIES FILE...``,
where LATENCIES is JSON: of each model, how many milliseconds an answer of average length takes. Nothing is computed:
how long an answer is follows from its question, and it is written after as long as that takes.
"""

import asyncio
import hashlib
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI

from ..traces.texts import read_texts

_TOKENS, _SPREAD = 80, 0.9
"""Of an answer on average, and of their logarithms."""
_LENGTHS = NormalDist(math.log(_TOKENS) - _SPREAD**2 / 2, _SPREAD)


def answers(files: Iterable[Path]) -> dict[str, str]:
    """The right answer to each text of the files, which are as ``traces.texts`` reads them."""
    known: dict[str, str] = {}
    for file in files:
        with file.open("rb") as lines:
            known |= {one.text: f"This is answered by {file.name}, {one.label}." for one in read_texts(lines)}
    return known


def tokens_of(model: str, text: str) -> int:
    """The length of an answer."""
    digest = hashlib.blake2b(f"{model}\n{text}".encode(), digest_size=8).digest()
    return max(1, round(math.exp(_LENGTHS.inv_cdf((int.from_bytes(digest) + 0.5) / 2**64))))


def endpoint(known: Mapping[str, str], latencies_ms: Mapping[str, float]) -> FastAPI:
    """What answers at ``/v1/chat/completions``."""
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": model, "object": "model"} for model in latencies_ms]}

    @app.post("/v1/chat/completions")
    async def complete(asked: dict[str, Any]) -> dict[str, Any]:
        model, text = asked["model"], asked["messages"][-1]["content"]
        wanted = tokens_of(model, text)
        tokens = min(wanted, asked.get("max_tokens") or wanted)
        await asyncio.sleep(latencies_ms[model] / 1000 * tokens / _TOKENS)
        prompt_tokens = sum(len(message["content"].split()) for message in asked["messages"])
        message = {"role": "assistant", "content": known.get(text, "Nothing is known of this.")}
        reason = "length" if tokens < wanted else "stop"
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": prompt_tokens + tokens,
            },
        }

    return app


def main(port: int, latencies_ms: str, files: list[str]) -> None:
    """Answer until killed."""
    app = endpoint(answers(map(Path, files)), msgspec.json.decode(latencies_ms, type=dict[str, float]))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
