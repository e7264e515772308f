"""What matters to a question, by a cross-encoder of random weights that is made on the spot; and what is none."""

from pathlib import Path

import pytest
from forebay_jobs.relevance import Asked, CrossEncoder, load_cross_encoders
from forebay_schemas.categories import CategoryConfig, PruningConfig
from forebay_schemas.config import load_config
from forebay_schemas.errors import ConfigError
from forebay_schemas.sections import EmbeddingConfig

pytestmark = pytest.mark.model

SETTINGS = EmbeddingConfig()
WORDS = [
    "how",
    "do",
    "i",
    "return",
    "a",
    "parcel",
    "?",
    "print",
    "the",
    "label",
    "who",
    "wrote",
    "hamlet",
    "shakespeare",
    "did",
]


def make_tiny_cross_encoder(folder: Path, labels: int = 1, with_head: bool = True) -> str:
    """Write a one-layer BERT that knows a few words to ``folder``, and return its name."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    symbols = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS)]
    vocabulary = {symbol: number for number, symbol in enumerate(symbols)}
    BertTokenizer(vocabulary, model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=1.0,  # so that texts differ in their scores
    )
    config.num_labels = labels
    model = BertForSequenceClassification(config) if with_head else BertModel(config)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    pytest.importorskip("sentence_transformers", reason="the extra `jobs` is not installed")


def test_every_passage_is_scored_with_its_own_question(tmp_path: Path) -> None:
    scorer = CrossEncoder(make_tiny_cross_encoder(tmp_path / "ranker"), SETTINGS)
    parcel = Asked("how do i return a parcel ?", ["print the label", "shakespeare did", "a parcel"])
    hamlet = Asked("who wrote hamlet ?", ["shakespeare did", "print the label"])
    nothing = Asked("who ?", [])
    scores = scorer.score([parcel, nothing, hamlet])
    assert [len(one) for one in scores] == [3, 0, 2]
    flat = [score for one in scores for score in one]
    assert all(0 <= score <= 1 for score in flat)
    assert len({round(score, 3) for score in flat}) == 5  # the question counts, not the passage alone
    assert scorer.score([hamlet])[0] == pytest.approx(scores[2], abs=1e-5)  # whatever else is in the batch


def test_a_question_is_grasped_that_leaves_room_for_a_passage(tmp_path: Path) -> None:
    scorer = CrossEncoder(make_tiny_cross_encoder(tmp_path / "ranker"), SETTINGS)
    assert scorer.grasps(["who wrote hamlet ?", "who " * 14, "who " * 15, "who is yorick ?"]) == [
        True,
        True,
        False,
        False,
    ]


def test_what_ranks_no_passages_is_refused(tmp_path: Path) -> None:
    for name, kind in {"classes": {"labels": 3}, "headless": {"with_head": False}}.items():
        model = make_tiny_cross_encoder(tmp_path / name, **kind)
        with pytest.raises(ConfigError, match=rf"pruning\.cross_encoder: '.*{name}' does not give a pair of texts one"):
            CrossEncoder(model, SETTINGS)
    with pytest.raises(ConfigError, match=r"pruning\.cross_encoder: '.*nowhere' cannot be loaded"):
        CrossEncoder(str(tmp_path / "nowhere"), SETTINGS)


def test_a_model_of_two_categories_is_loaded_once(tmp_path: Path) -> None:
    model = make_tiny_cross_encoder(tmp_path / "ranker")
    ranked = CategoryConfig(pruning=PruningConfig(cross_encoder=model, min_similarity=0.5))
    categories = {"a": ranked, "b": ranked, "c": CategoryConfig(pruning=PruningConfig()), "d": CategoryConfig()}
    config = load_config().model_copy(update={"categories": categories})
    assert list(load_cross_encoders(config)) == [model]
