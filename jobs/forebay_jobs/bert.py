"""Runs a sentence model of the BERT family with torch alone, from the folder that sentence-transformers saves.

Importing that library and transformers takes 4 s of a core, in which a job that comes back answers nothing. What of
them is needed for such a model is this module; any other model is left to them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

_FILES = (
    "modules.json",
    "config.json",
    "sentence_bert_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)
_WORDS = "embeddings.word_embeddings.weight"
_NO_LENGTH = 1e-12
"""Keeps a vector of nothing from being divided by zero."""


def is_plain_bert(folder: Path) -> bool:
    """Whether the folder holds what this module computes: a BERT, the mean over its tokens, and nothing else."""
    if not all((folder / name).is_file() for name in _FILES):
        return False
    kinds = [module["type"].rpartition(".")[2] for module in _read(folder / "modules.json")]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        return False
    config, tokenizer = _read(folder / "config.json"), _read(folder / "tokenizer.json")
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and tokenizer["model"]["type"] == "WordPiece"
        and not _read(folder / "sentence_bert_config.json").get("do_lower_case")
        and _is_mean(_read(folder / _read(folder / "modules.json")[1]["path"] / "config.json"))
        and not _has_prompt(folder)
        and _WORDS in _weights_in(folder)
    )


class BertEncoder:
    """A loaded model.

    Attributes: see ``embedding.Encoder``.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model of a folder that ``is_plain_bert``."""
        config, saved = _read(folder / "config.json"), _read(folder / "tokenizer.json")
        self.most_tokens = _most_tokens(folder, config["max_position_embeddings"])
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.most_tokens)
        self.unknown: int | None = self.tokenizer.token_to_id(saved["model"]["unk_token"])
        self._heads: int = config["num_attention_heads"]
        self._epsilon: float = config["layer_norm_eps"]
        weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
        self._words = weights[_WORDS]
        # All tokens are of the first kind, so what is added for it is added to their places once.
        kinds = weights["embeddings.token_type_embeddings.weight"]
        self._places = weights["embeddings.position_embeddings.weight"] + kinds[0]
        self._first = _pair(weights, "embeddings.LayerNorm")
        self._layers = [_Layer(weights, f"encoder.layer.{number}") for number in range(config["num_hidden_layers"])]

    def encode(self, texts: Sequence[str], batch: int) -> npt.NDArray[np.float32]:
        """See ``embedding.Encoder.encode``; texts of similar length are computed together."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(tokens), self._words.shape[1]), dtype=np.float32)
        by_length = sorted(range(len(tokens)), key=lambda number: len(tokens[number]))
        with torch.inference_mode():
            for start in range(0, len(by_length), batch):
                numbers = by_length[start : start + batch]
                vectors[numbers] = self._means([tokens[number] for number in numbers]).numpy()
        return vectors

    def _means(self, tokens: list[list[int]]) -> Tensor:
        longest = len(tokens[-1])
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in tokens])
        lengths = torch.tensor([len(row) for row in tokens])
        read = torch.arange(longest) < lengths[:, None]
        hidden = self._norm(self._words[ids] + self._places[:longest], self._first)
        mask = None if len(tokens[0]) == longest else read[:, None, None, :]
        for layer in self._layers:
            hidden = self._through(layer, hidden, mask)
        summed = (hidden * read[:, :, None]).sum(dim=1)
        return functional.normalize(summed / lengths[:, None], dim=1, eps=_NO_LENGTH)

    def _through(self, layer: "_Layer", hidden: Tensor, mask: Tensor | None) -> Tensor:
        rows, longest, width = hidden.shape
        asked = functional.linear(hidden, *layer.attention).view(rows, longest, 3, self._heads, width // self._heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        seen = functional.linear(seen.transpose(1, 2).reshape(rows, longest, width), *layer.attended)
        hidden = self._norm(hidden + seen, layer.after_attention)
        wide = functional.gelu(functional.linear(hidden, *layer.wide))
        return self._norm(hidden + functional.linear(wide, *layer.narrow), layer.after_all)

    def _norm(self, hidden: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(hidden, hidden.shape[-1:], *scale, eps=self._epsilon)


class _Layer:
    """Weights and biases of one layer, query, key and value as one."""

    def __init__(self, weights: dict[str, Tensor], name: str) -> None:
        asked = [_pair(weights, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        self.attention = torch.cat([weight for weight, _ in asked]), torch.cat([bias for _, bias in asked])
        self.attended = _pair(weights, f"{name}.attention.output.dense")
        self.after_attention = _pair(weights, f"{name}.attention.output.LayerNorm")
        self.wide = _pair(weights, f"{name}.intermediate.dense")
        self.narrow = _pair(weights, f"{name}.output.dense")
        self.after_all = _pair(weights, f"{name}.output.LayerNorm")


def _pair(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _is_mean(pooling: dict[str, Any]) -> bool:
    older = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on]
    return older == ["pooling_mode_mean_tokens"] if older else pooling.get("pooling_mode") == "mean"


def _most_tokens(folder: Path, places: int) -> int:
    """What older folders say of the model, and newer ones of its tokenizer."""
    said = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    return min(said or _read(folder / "tokenizer_config.json").get("model_max_length") or places, places)


def _has_prompt(folder: Path) -> bool:
    file = folder / "config_sentence_transformers.json"
    return file.is_file() and _read(file).get("default_prompt_name") is not None


def _weights_in(folder: Path) -> Sequence[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return file.keys()


def _read(file: Path) -> Any:
    return json.loads(file.read_text())
