"""What vLLM writes of an error is what our own parts write of one."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.stack  # vLLM takes ten seconds to import

_A_PROCESS_OF_VLLM = """
from forebay_workers.backends.vllm_logs import DICT_CONFIG
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging, init_logger
configure_logging(LoggingConfig(pylogging_config_file=str(DICT_CONFIG)))
try:
    int("canary-prompt")
except ValueError:
    init_logger("vllm.engine").exception("the engine of %s fails", "ada@example.org")
"""


def mask(line: str) -> str:
    """A hook as an installation may have one."""
    return line.replace("ada@example.org", "***")


def test_its_lines_hold_no_texts_and_pass_through_the_hook() -> None:
    pytest.importorskip("vllm")
    environment = {**os.environ, "FOREBAY_LOGS__REDACT": f"{__name__}:mask"}
    command = [sys.executable, "-c", _A_PROCESS_OF_VLLM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    said = done.stdout + done.stderr
    assert "the engine of *** fails" in said
    assert "builtins.ValueError (its text is left out" in said
    assert "canary-prompt" not in said
