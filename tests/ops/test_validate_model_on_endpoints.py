"""Comparing models behind an OpenAI-compatible endpoint, each asked by a process of its own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forebay_ops.cli.validate_model import validate_model

pytestmark = pytest.mark.stack


class _Endpoint(BaseHTTPRequestHandler):
    """The model `good` counts the words of the question, `lazy` says 1."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = str(len(asked["messages"][-1]["content"].split())) if asked["model"] == "good" else "1"
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {"id": "1", "object": "chat.completion", "created": 1, "model": asked["model"], "usage": usage}
        body = json.dumps(completion | {"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Prompts, and a configuration with `good` and `lazy` at an endpoint and `away` where none is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    places = dict.fromkeys(("good", "lazy"), server.server_port) | {"away": 1}
    models = "".join(
        f'[models.{name}]\nbackend = "openai"\nprice = {{ input_per_1k = 0, output_per_1k = 0 }}\n'
        f'endpoint = {{ url = "http://127.0.0.1:{port}/v1", max_retries = 0, concurrency = 4 }}\n'
        for name, port in places.items()
    )
    tier = '[tiers.only]\ncomplexity_up_to = 1.0\nmodel = "good"\nmax_tokens = 9\n'
    (tmp_path / "forebay.toml").write_text(models + tier)
    monkeypatch.setenv("FOREBAY_CONFIG", str(tmp_path / "forebay.toml"))
    questions = [{"task": "count", "prompt": "word " * (n % 4 + 1), "answer": str(n % 4 + 1)} for n in range(80)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, questions)))
    yield tmp_path
    server.shutdown()
    server.server_close()


def validate(folder: Path, original: str, changed: str) -> Result:
    options = ["--prompts", str(folder / "prompts.jsonl"), "--out", str(folder / "report.json")]
    return CliRunner().invoke(validate_model, [original, changed, *options])


def test_a_model_may_take_the_place_of_itself(folder: Path) -> None:
    assert validate(folder, "good", "good").exit_code == 0
    [task] = json.loads((folder / "report.json").read_text())["tasks"]
    assert (task["accuracy"], task["prompts"]) == ([1.0, 1.0], 80)


def test_a_worse_one_may_not_and_the_better_one_may(folder: Path) -> None:
    result = validate(folder, "good", "lazy")
    assert result.exit_code == 1
    assert "count: lost accuracy 75.0%" in result.stdout
    assert validate(folder, "lazy", "good").exit_code == 0


def test_an_endpoint_that_is_away_is_named(folder: Path) -> None:
    result = validate(folder, "away", "good")
    assert result.exit_code == 1
    assert "away cannot be reached" in str(result.exception)
