"""Sentence models of the BERT family are computed as sentence-transformers does, without it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forebay_jobs.embedding import LibraryEncoder

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "how", "do", "i", "return", "a", "parcel", "?", "##s"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as sentence-transformers saves it."""
    pytest.importorskip("sentence_transformers", reason="the extra `jobs` is not installed")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    bare, saved = tmp_path_factory.mktemp("bare"), tmp_path_factory.mktemp("saved")
    config = BertConfig(
        vocab_size=len(_WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config).save_pretrained(bare)
    BertTokenizer(vocab={word: number for number, word in enumerate(_WORDS)}).save_pretrained(bare)
    transformer = Transformer(str(bare), max_seq_length=16)
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")], device="cpu")
    model.save(str(saved))
    return saved


@pytest.mark.stack  # torch and its company take seconds of a core to import
def test_vectors_are_those_of_the_library(folder: Path) -> None:
    from forebay_jobs.bert import BertEncoder, is_plain_bert

    assert is_plain_bert(folder)
    ours, library = BertEncoder(folder), LibraryEncoder(str(folder))
    assert (ours.unknown, ours.most_tokens) == (library.unknown, library.most_tokens)
    texts = ["How do I return a parcel?", "Parcels", "", "What is 什么?", "return a parcel " * 20, "i do"]
    for batch in (1, 2, 64):
        assert np.allclose(ours.encode(texts, batch), library.encode(texts, batch), atol=1e-5)
    assert ours.encode([], 4).shape == (0, 32)


def _set(file: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | values))

    return change


@pytest.mark.stack
@pytest.mark.parametrize(
    "change",
    [
        _set("config.json", model_type="roberta"),
        _set("config.json", hidden_act="relu"),
        _set("config.json", position_embedding_type="relative_key"),
        _set("sentence_bert_config.json", do_lower_case=True),
        _set("config_sentence_transformers.json", default_prompt_name="query"),
        _set("1_Pooling/config.json", pooling_mode="cls"),
        lambda folder: (folder / "model.safetensors").unlink(),
    ],
)
def test_a_model_that_is_anything_else_is_left_to_the_library(
    folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    from forebay_jobs.bert import is_plain_bert

    other = Path(shutil.copytree(folder, tmp_path / "other"))
    assert is_plain_bert(other)
    change(other)
    assert not is_plain_bert(other)
