"""Labels made up for tests: easy prompts that every tier answers well, and hard ones that only the large one does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from forebay_ops.routing.labels import Labels, read_labels
from forebay_ops.routing.training import Prepared, prepared

DIMENSIONS = 16
EASY, HARD = "Which colour has the pump number {}?", "Prove the theorem number {} without the axiom of choice."


def line(number: int, hard: bool) -> dict[str, Any]:
    """A labelled prompt; one in eight labels is the other way round."""
    odd = number % 8 == 7
    prompt = (HARD if hard else EASY).format(number)
    return {"prompt": prompt, "small_correct": hard == odd, "large_correct": not (odd and not hard), "dataset": "made"}


def lines(count: int = 400) -> list[dict[str, Any]]:
    """Half of them easy."""
    return [line(number, hard=bool(number % 2)) for number in range(count)] + [
        line(8 * number + 7, hard=False) for number in range(count // 16)
    ]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of labels."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def vector(prompt: str) -> np.ndarray:
    """Unit vectors: easy prompts near each other, hard ones too, and anything else far from both."""
    rng = np.random.default_rng(len(prompt) + sum(prompt.encode()))
    middle = np.zeros(DIMENSIONS)
    middle[0 if prompt.startswith("Which") else 1 if prompt.startswith("Prove") else 2] = 1.0
    found = middle + 0.05 * rng.normal(size=DIMENSIONS)
    return (found / np.linalg.norm(found)).astype(np.float32)


def labels_in(file: Path) -> Labels:
    """The labels of a file."""
    with file.open("rb") as opened:
        return read_labels(opened)


def data_in(file: Path) -> Prepared:
    """The labels of a file with their vectors."""
    labels = labels_in(file)
    return prepared(labels, np.array([vector(prompt) for prompt in labels.prompts]))
