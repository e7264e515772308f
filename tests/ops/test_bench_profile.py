"""`forebay bench NAME --profile`: which threads took the cores, and which functions computed."""

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forebay_ops.bench.harness import Bench
from forebay_ops.bench.process import Process
from forebay_ops.bench.profile import Profile, check_profiling, functions, profile_sides
from forebay_ops.bench.profile_tables import show_profile
from forebay_schemas.errors import ForebayError
from rich.console import Console

STACKS = """\
thread (0x1);take (/x/jobs/forebay_jobs/intake.py:40);<listcomp> (/x/jobs/forebay_jobs/desk.py:7) 20
thread (0x1);encode (/v/lib/python3.11/site-packages/six.py:9) 5
thread (0x1);main (run.py:3);take (/x/jobs/forebay_jobs/intake.py:40);get (/v/lib/python3.11/site-packages/redis/client.py:9) 60
thread (0x1);main (run.py:3);take (/x/jobs/forebay_jobs/intake.py:41);take (/x/jobs/forebay_jobs/intake.py:50) 30
thread (0x2);_bootstrap (/v/lib/python3.11/threading.py:1002) 10
Error: something it could not read
"""  # noqa: E501

BUSY = """
import sys, time
def busy_with_this():
    end = time.monotonic() + float(sys.stdin.readline())
    while time.monotonic() < end:
        sum(range(1000))
while True:
    busy_with_this()
    print("{}", flush=True)
"""


def test_stacks_come_to_shares_of_functions_and_packages() -> None:
    found = functions("taskmanager", STACKS.splitlines())
    assert found.samples == 125
    assert found.ours == [("forebay_jobs/intake.py: take", 110 / 125), ("forebay_jobs/desk.py: <listcomp>", 20 / 125)]
    assert found.packages == [
        ("redis", 60 / 125),
        ("forebay_jobs", 50 / 125),
        ("threading", 10 / 125),
        ("six", 5 / 125),
    ]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Process]:
    folder = tmp_path / "forebay_busy"
    folder.mkdir()
    (folder / "work.py").write_text(BUSY)
    process = Process("busy", [sys.executable, str(folder / "work.py")], dict(os.environ), tmp_path / "log", piped=True)
    yield process
    process.end()


def working(process: Process, seconds: float) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        assert process.popen.stdin is not None
        assert process.popen.stdout is not None
        process.popen.stdin.write(f"{seconds}\n".encode())
        process.popen.stdin.flush()
        process.popen.stdout.readline()
        return {}

    return measure


@pytest.mark.skipif(shutil.which("py-spy", path=str(Path(sys.executable).parent)) is None, reason="no py-spy here")
def test_each_side_is_looked_into(busy: Process, tmp_path: Path) -> None:
    bench = Bench({"the side": working(busy, 4.0)}, processes=[busy])
    try:
        (profile,) = profile_sides(bench, tmp_path / "profile", lambda _: None)
    except ForebayError as error:
        if "ermission" in str(error):
            pytest.skip(f"py-spy may not look into other processes here: {error}")
        raise
    assert profile.side == "the side"
    assert profile.took_s > 4
    assert profile.threads[0].process == "busy"
    assert 0.1 < profile.threads[0].cores < 1.1
    (found,) = profile.functions
    assert dict(found.ours)["forebay_busy/work.py: busy_with_this"] == pytest.approx(1.0, abs=0.2)
    assert [file.suffix for file in (tmp_path / "profile" / "the-side").iterdir()] == [".folded"]
    assert "busy_with_this" in printed(profile)


def printed(profile: Profile) -> str:
    text = io.StringIO()
    show_profile(profile, Console(file=text, width=120))
    return text.getvalue()


def test_nothing_to_look_into_is_said() -> None:
    with pytest.raises(ForebayError, match="has no processes that are looked into; leave it out"):
        check_profiling(Bench({}))
