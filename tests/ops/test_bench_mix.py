"""What the mix is asked of: the tiers that are known without a configuration, and models that know the labels."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from fastapi.testclient import TestClient
from forebay_ops.bench import knowing, mix
from forebay_schemas.config import load_config

LABELLED = [
    {"text": "How do I return a parcel?", "label": "returns"},
    {"text": "Where can I send it back?", "label": "returns"},
    {"text": "How late is it?", "label": "time"},
]


def test_its_tiers_are_the_known_ones_behind_one_endpoint(tmp_path: Path) -> None:
    file = tmp_path / "forebay.toml"
    file.write_text(tomli_w.dumps(mix.ladder("http://localhost:1/v1")))
    asked, known = load_config(file), load_config()
    assert list(asked.tiers) == list(known.tiers) == list(mix.CLAIMED)
    for name, tier in asked.tiers.items():
        model = asked.models[tier.model]
        assert model.endpoint.url == "http://localhost:1/v1"
        assert model.price == known.models[known.tiers[name].model].price


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    file = tmp_path / "texts.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(map(msgspec.json.encode, LABELLED))))
    return TestClient(knowing.endpoint(knowing.answers([file]), {"small": 0.0}))


def said(client: TestClient, text: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "small", "messages": [{"role": "user", "content": text}], "max_tokens": 2_000, **fields}
    return client.post("/v1/chat/completions", json=body).json()


def test_answers_are_equal_where_labels_are_and_only_there(client: TestClient) -> None:
    first, second, third = (said(client, one["text"])["choices"] for one in LABELLED)
    assert first == second != third


def test_an_answer_is_as_long_as_its_question_says_up_to_the_limit(client: TestClient) -> None:
    whole = said(client, "How late is it?")
    assert whole == said(client, "How late is it?")
    assert whole["usage"]["completion_tokens"] > 1
    cut = said(client, "How late is it?", max_tokens=1)
    assert (cut["usage"]["completion_tokens"], cut["choices"][0]["finish_reason"]) == (1, "length")
