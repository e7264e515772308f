"""The HTTP backend against a real server: vLLM's own, with a model of random weights."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_schemas.tiers import EndpointConfig
from forebay_workers.backends import GenerationError, GenerationRequest, Unavailable
from forebay_workers.backends.openai import OpenAIBackend

from ..builders import system, user
from .doubles import to_generate

pytestmark = pytest.mark.stack

START_S = 240
SYSTEM_PROMPT = "You keep the gates of a dam. " * 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that is up."""
    pytest.importorskip("vllm")  # takes ten seconds, so not while tests are collected
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        *("--model", str(make_tiny_model(folder / "tiny"))),
        *("--served-model-name", "provider/tiny"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "4"),
        *("--enforce-eager", "--enable-prompt-tokens-details"),
    ]
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    environment = {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline_s = time.monotonic() + START_S
        while not _healthy(port):
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline_s, (folder / "log").read_text()[-4000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the engine is a process of its own
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
    except OSError:
        return False


@pytest_asyncio.fixture
async def backend(server: str) -> AsyncIterator[OpenAIBackend]:
    backend = OpenAIBackend("tiny", EndpointConfig(url=server, model="provider/tiny"))
    await backend.start()
    yield backend
    await backend.stop()


def asked(question: str = "What is the head of the river?", **fields: Any) -> GenerationRequest:
    return to_generate(system(SYSTEM_PROMPT), user(question), **{"max_tokens": 60} | fields)


async def test_an_answer_is_the_same_whole_and_in_pieces(backend: OpenAIBackend) -> None:
    pieces: list[str] = []
    whole = await backend.generate(asked())
    streamed = await backend.generate(asked(), pieces.append)
    assert whole.text
    assert "".join(pieces) == streamed.text == whole.text
    assert streamed.finish_reason == whole.finish_reason
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens > 0
    assert whole.confidence is not None
    assert 0 < whole.confidence < 1
    assert streamed.confidence == pytest.approx(whole.confidence, rel=1e-2)
    assert streamed.first_token_ms is not None


async def test_a_prefix_that_was_read_before_comes_from_the_cache(backend: OpenAIBackend) -> None:
    await backend.generate(asked("What is the level?"))
    usage = (await backend.generate(asked("What is the flow?"))).usage
    assert usage.prompt_tokens > usage.cached_prompt_tokens > len(SYSTEM_PROMPT) / 2  # a token is a byte


async def test_a_schema_is_followed_and_a_stop_sequence_kept(backend: OpenAIBackend) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "gate", "schema": {"enum": ["open", "shut"]}}}
    assert json.loads((await backend.generate(asked(response_format=form))).text) in ("open", "shut")
    text = (await backend.generate(asked())).text
    stop = text[len(text) // 2 :][:3]
    stopped = await backend.generate(asked(stop=[stop]))
    assert (stopped.text, stopped.finish_reason) == (text[: text.index(stop)], "stop")


async def test_many_are_answered_at_once_and_one_can_be_cancelled(backend: OpenAIBackend) -> None:
    tasks = [
        asyncio.create_task(backend.generate(asked(f"Question {number}?", generation_id=f"{number}")))
        for number in range(8)
    ]
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(not isinstance(answer, BaseException) for answer in answers[1:])


async def test_what_the_server_refuses_is_an_error_of_the_request(backend: OpenAIBackend) -> None:
    with pytest.raises(GenerationError) as error:
        await backend.generate(asked("x" * 2000))
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(GenerationError) as error:
        await backend.generate(asked(response_format={"type": "json_schema", "json_schema": {"name": "none"}}))
    assert not isinstance(error.value, Unavailable)
    assert error.value.code == "engine_refused"


async def test_a_model_that_the_server_has_not_is_unavailable(server: str) -> None:
    backend = OpenAIBackend("tiny", EndpointConfig(url=server, model="provider/huge"))
    await backend.start()
    with pytest.raises(Unavailable, match="404"):
        await backend.generate(asked())
    await backend.stop()
