"""Comparing real models, loaded by vLLM in processes of their own: random ones, so small that they load at once."""

import json
import math
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_ops.cli.validate_model import validate_model
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_ops.models.jobs import PerplexityJob, Subject
from forebay_ops.models.measuring import MeasuringFailed, perplexity_of

pytestmark = pytest.mark.stack

ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16}
PROMPTS = 80
"""What it takes to show that nothing is lost, within the tolerance of 5 %."""
TEXT = "The basin holds the water that the turbine takes. " * 8


@pytest.fixture(autouse=True)
def _small_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default vLLM takes a share of the machine's memory, where it is not alone, and leaves a core idle."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    asked = [{"task": "qa", "prompt": f"Why is {number} more than {number - 1}?"} for number in range(PROMPTS)]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)))
    return file


def test_a_model_may_take_the_place_of_itself(tmp_path: Path, model: Path, prompts: Path) -> None:
    report = tmp_path / "report.json"
    engine = ("--engine", json.dumps(ENGINE), "--max-tokens", "40")
    files = ("--prompts", str(prompts), "--out", str(report))
    result = CliRunner().invoke(validate_model, [str(model), str(model), *files, *engine])
    assert (result.exit_code, result.exception) == (0, None)
    found = json.loads(report.read_text())
    assert found["verdict"] == "recommend"
    assert all(speed["tokens_per_s"] > 0 for speed in found["speed"])
    assert len({row["changed"]["text"] for row in found["rows"]}) > PROMPTS / 10, "equal, and not because all are"


def test_perplexity_is_that_of_transformers(model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = perplexity_of(PerplexityJob(Subject(str(model), ENGINE), TEXT), lambda _: None)
    tokens = AutoTokenizer.from_pretrained(model)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(model)(tokens, labels=tokens).loss
    assert found.tokens == len(TEXT) - 1  # a token is a byte; the first one is given
    assert found.value == pytest.approx(math.exp(loss), rel=1e-3)


def test_weights_that_cannot_be_loaded_are_named_with_what_the_engine_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MeasuringFailed, match=f"cannot load {tmp_path}"):
        perplexity_of(PerplexityJob(Subject(str(tmp_path), ENGINE), TEXT), lambda _: None)
