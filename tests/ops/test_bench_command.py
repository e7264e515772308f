"""`forebay bench`: what it lists, prints and writes, and that everything it started ends however it ends."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result
from forebay_ops.bench import report
from forebay_ops.bench.harness import Bench, Goal, Say, Start
from forebay_ops.bench.process import BenchFailed, Process
from forebay_ops.cli import bench as command
from forebay_ops.cli.bench_running import run_all
from forebay_schemas.errors import ForebayError


class Started:
    """A benchmark whose sides give what the test says, and which notes whether it was stopped."""

    def __init__(self, **sides: Callable[[], Mapping[str, float]]) -> None:
        self.sides = sides
        self.stopped = False

    @contextmanager
    def bench(self, model: str, engine_cores: int | None, say: Say) -> Iterator[Bench]:
        say("starting nothing")
        goal = Goal(side="ours", metric="tokens_per_s", at_least=0.95)
        try:
            yield Bench(self.sides, (goal,), {"model": model, "engine on": f"{engine_cores} cores"})
        finally:
            self.stopped = True


def _run(started: Started, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setattr(command.worker_bench, "bench", started.bench)
    monkeypatch.setattr(report, "_LOOK_S", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(command.bench, ["worker", *arguments])
    finally:
        signal.signal(signal.SIGTERM, before)


def test_every_benchmark_is_listed_with_a_sentence() -> None:
    output = CliRunner().invoke(command.bench, ["--help"]).output
    for name, benchmark in command.bench.commands.items():
        assert name in output
        assert (benchmark.help or "").split("\n")[0].endswith(".")


def test_the_table_holds_figures_ratio_goal_and_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Started(bare=lambda: {"tokens_per_s": 1000.0}, ours=lambda: {"tokens_per_s": 970.0})
    result = _run(started, monkeypatch, "--engine-cores", "1")
    assert result.exit_code == 0, result.output
    assert started.stopped
    for text in ("1,000", "970.0", "0.97x", "at least 0.95x: met", "model: tiny", "1 cores", "round 3 of 3: ours"):
        assert text in result.output


def test_the_file_holds_every_round_and_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    started = Started(bare=lambda: {"tokens_per_s": 1000.0}, ours=lambda: {"tokens_per_s": 500.0})
    _run(started, monkeypatch, "--rounds", "4", "--out", str(file))
    written = json.loads(file.read_text())
    assert written.keys() == {"bench", "measured_at", "machine", "rounds", "options", "figures", "facts"}
    assert written["machine"].keys() == {"processor", "cores", "memory_gib", "python", "busy_cores"}
    assert (written["bench"], written["rounds"], written["options"]) == ("worker", 4, {"model": "tiny"})
    ours = written["figures"][1]
    assert (ours["side"], ours["rounds"], ours["ratio"], ours["met"]) == ("ours", [500.0] * 4, 0.5, False)


def test_ctrl_c_stops_what_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted() -> Mapping[str, float]:
        raise KeyboardInterrupt

    started = Started(bare=interrupted)
    result = _run(started, monkeypatch, "--out", str(tmp_path / "figures.json"))
    assert result.exit_code != 0
    assert started.stopped
    assert not (tmp_path / "figures.json").exists()


def test_two_rounds_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _run(Started(), monkeypatch, "--rounds", "2")
    assert result.exit_code == 2
    assert "2 is not in the range" in result.output


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    command = ["sh", "-c", "echo hello; sleep 600 & sleep 600"]
    process = Process("sleeper", command, dict(os.environ), tmp_path / "sleeper.log", piped=False)
    yield process
    process.end()


@pytest.mark.stack
def test_a_process_ends_with_its_children(sleeper: Process) -> None:
    sleeper.wait_until(lambda: "hello" in sleeper.log.read_text())
    children = psutil.Process(sleeper.popen.pid).children()
    assert children
    sleeper.end()
    psutil.wait_procs(children, timeout=10, callback=lambda child: children.remove(child))
    assert not children


def test_a_process_that_was_stopped_ends_too(sleeper: Process) -> None:
    os.killpg(sleeper.popen.pid, signal.SIGSTOP)
    sleeper.end()
    assert sleeper.popen.returncode == -signal.SIGTERM


def test_a_process_that_dies_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo what went wrong; exit 3"]
    process = Process("worker", command, dict(os.environ), tmp_path / "log", piped=False)
    with pytest.raises(BenchFailed, match=r"(?s)worker has ended with code 3.*what went wrong"):
        process.wait_until(lambda: False)


def test_all_measures_on_where_one_fails_and_its_page_tells_of_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(bare=lambda: {"tokens_per_s": 1000.0}, ours=lambda: {"tokens_per_s": 500.0})

    def fail() -> Mapping[str, float]:
        raise BenchFailed("kafka has ended with code 1")

    monkeypatch.setattr(report, "_LOOK_S", 0.01)
    benches = {
        "broken": lambda say: Started(ours=fail).bench("tiny", None, say),
        "whole": lambda say: started.bench("tiny", None, say),
    }

    @contextmanager
    def no_server(say: Say) -> Iterator[Mapping[str, Start]]:
        raise BenchFailed("flink is not up")
        yield {}

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ForebayError, match="one, two, broken could not be measured"):
            run_all({"one, two": no_server, "broken, whole": lambda _: nullcontext(benches)}, 3, tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"whole.json", "index.html"}
    page = (tmp_path / "out" / "index.html").read_text()
    for text in (
        "0.50x",
        "at least 0.95x: missed",
        "<svg",
        "all together took 0 min",
        "broken: kafka has ended with code 1",
        "flink is not up",
    ):
        assert text in page
