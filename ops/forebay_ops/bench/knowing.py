"""Stands in for models that know the labels of texts: those of one label get one answer, and others get another.

A process of its own, an OpenAI-compatible endpoint: ``python -m forebay_ops.bench.knowing PORT LATENCIES FILE...``,
where LATENCIES is JSON: of each model, how many milliseconds an answer of average length takes. Nothing is computed:
lengths and times are those of the load test's backend.
"""

import sys
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI
from forebay_schemas.records import Message
from forebay_schemas.tiers import SyntheticConfig
from forebay_workers.backends import GenerationRequest
from forebay_workers.backends.synthetic import SyntheticBackend

from ..traces.texts import read_texts

_TOKENS, _SPREAD = 80, 0.9
"""Of an answer on average, and of their logarithms."""


def answers(files: Iterable[Path]) -> dict[str, str]:
    """The right answer to each text of the files, which are as ``traces.texts`` reads them."""
    known: dict[str, str] = {}
    for file in files:
        with file.open("rb") as lines:
            known |= {one.text: f"This is answered by {file.name}, {one.label}." for one in read_texts(lines)}
    return known


def endpoint(known: Mapping[str, str], latencies_ms: Mapping[str, float]) -> FastAPI:
    """What answers at ``/v1/chat/completions``."""
    backends = {
        model: SyntheticBackend(model, SyntheticConfig(latency_ms=ms, tokens=_TOKENS, tokens_spread=_SPREAD))
        for model, ms in latencies_ms.items()
    }
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(asked: dict[str, Any]) -> dict[str, Any]:
        messages = msgspec.convert(asked["messages"], list[Message])
        generation = await backends[asked["model"]].generate(
            GenerationRequest(
                generation_id=uuid.uuid4().hex,
                messages=messages,
                max_tokens=asked["max_tokens"],
                temperature=0.0,
                top_p=1.0,
                stop=[],
                seed=None,
                tools=None,
                response_format=None,
            )
        )
        text = known.get(messages[-1].content or "", "Nothing is known of this.")
        usage = generation.usage
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": generation.finish_reason,
                }
            ],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }

    return app


def main(port: int, latencies_ms: str, files: list[str]) -> None:
    """Answer until killed."""
    app = endpoint(answers(map(Path, files)), msgspec.json.decode(latencies_ms, type=dict[str, float]))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
