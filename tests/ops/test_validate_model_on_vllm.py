"""Comparing real models, loaded by vLLM in processes of their own: random ones, so small that they load at once."""

import json
import math
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_ops.cli.validate_model import validate_model
from forebay_ops.local.tiny_model import make_tiny_model
from forebay_ops.models.jobs import AnswerJob, PerplexityJob, Subject
from forebay_ops.models.measuring import MeasuringFailed, answers_of, perplexity_of
from forebay_ops.models.prompts import Prompt, read_prompts
from forebay_ops.models.verdict import Verdict, compare_tasks, conclude
from forebay_schemas.config import load_config

pytestmark = pytest.mark.stack

ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 16}
TEXT = "The basin holds the water that the turbine takes. " * 8


@pytest.fixture(autouse=True)
def _small_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default vLLM takes a share of the machine's memory, where it is not alone, and leaves a core idle."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("original"), seed=0)


@pytest.fixture(scope="module")
def prompts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = [{"task": "qa", "prompt": f"Why is {number} more than {number - 1}?"} for number in range(80)]
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)))
    return file


@pytest.fixture
def prompts(prompts_file: Path) -> list[Prompt]:
    return read_prompts(prompts_file.read_bytes().splitlines(), load_config(), max_tokens=40)


def test_a_model_may_take_the_place_of_itself_and_not_of_another(
    tmp_path: Path, original: Path, prompts_file: Path, prompts: list[Prompt]
) -> None:
    report, other = tmp_path / "report.json", make_tiny_model(tmp_path / "other", seed=1)
    engine = ("--engine", json.dumps(ENGINE), "--max-tokens", "40")
    files = ("--prompts", str(prompts_file), "--out", str(report))
    result = CliRunner().invoke(validate_model, [str(other), str(other), *files, *engine])
    assert (result.exit_code, result.exception) == (0, None)
    found = json.loads(report.read_text())
    assert found["verdict"] == "recommend"
    assert all(speed["tokens_per_s"] > 0 for speed in found["speed"])

    answered = answers_of(AnswerJob(Subject(str(original), ENGINE), [p.request for p in prompts], 3), lambda _: None)
    others = [
        type(answer)(row["original"]["text"]) for answer, row in zip(answered.answers, found["rows"], strict=True)
    ]
    verdict, [reason] = conclude(compare_tasks(prompts, answered.answers, others, {}), None)
    assert verdict is Verdict.REFUSE
    assert "qa: differing answers" in reason


def test_perplexity_is_that_of_transformers(original: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = perplexity_of(PerplexityJob(Subject(str(original), ENGINE), TEXT), lambda _: None)
    tokens = AutoTokenizer.from_pretrained(original)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        loss = AutoModelForCausalLM.from_pretrained(original)(tokens, labels=tokens).loss
    assert found.tokens == len(TEXT) - 1  # a token is a byte; the first one is given
    assert found.value == pytest.approx(math.exp(loss), rel=1e-3)


def test_weights_that_cannot_be_loaded_are_named_with_what_the_engine_says(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MeasuringFailed, match=f"cannot load {tmp_path}"):
        perplexity_of(PerplexityJob(Subject(str(tmp_path), ENGINE), TEXT), lambda _: None)
