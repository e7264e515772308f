"""The client is light, and gets along with a service's own packages."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("pyflink", "torch", "vllm", "transformers", "redis", "qdrant_client", "rich", "click", "forebay_jobs")


def run(code: str, folder: Path) -> str:
    """What Python prints in a process of its own, with ``folder`` first on its path."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_importing_the_client_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"import forebay_client; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code, tmp_path) == "[]"


@pytest.mark.parametrize("order", ["{theirs}\n{ours}", "{ours}\n{theirs}"])
def test_it_works_beside_a_services_own_schemas_workers_and_jobs(tmp_path: Path, order: str) -> None:
    names = ("schemas", "workers", "jobs", "producers", "ops")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"mine = {name!r}\n")
    code = order.format(theirs=f"import {', '.join(names)}", ours="from forebay_client import Client")
    lines = "; ".join(f"print({name}.mine)" for name in names)
    assert run(f"{code}\nClient('acme').close(); {lines}", tmp_path).split() == list(names)
