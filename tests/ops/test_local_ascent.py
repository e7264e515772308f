"""The way up: parts start as soon as what they need is ready, and what cannot start says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from forebay_ops.local import ascent
from forebay_ops.local.ascent import Ascent, PartFailed
from forebay_ops.local.parts import Part
from forebay_ops.local.supervision import Process, Supervisor


class _Supervisor:
    """Starts nothing: a part has a process from its start on, and a new one at each look while it dies."""

    def __init__(self, dying: str = "") -> None:
        self.events: list[str] = []
        self._dying = dying
        self._pid = 100
        self._pids: dict[str, int] = {}

    def processes(self) -> dict[str, Process]:
        if self._dying in self._pids:
            self._pids[self._dying] = self._next_pid()
        return {
            name: Process("RUNNING", self._pids[name], 1) if name in self._pids else Process("STOPPED", None, 0)
            for name in ("kafka", "job", "worker")
        }

    def start(self, name: str) -> None:
        self.events.append(f"start {name}")
        self._pids[name] = self._next_pid()

    def stop(self, name: str) -> None:
        self.events.append(f"stop {name}")

    def _next_pid(self) -> int:
        self._pid += 1
        return self._pid


class _Silent:
    def doing(self, what: str) -> None: ...

    def done(self, what: str) -> None: ...


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascent, "_POLL_S", 0)


def _part(name: str, ready: Callable[[], bool] = lambda: True, after: tuple[str, ...] = ()) -> Part:
    return Part(name, ("true",), "nowhere", ready, 1, after=after)


def _ascent(
    parts: list[Part], supervisor: _Supervisor, folder: Path, once_ready: Callable[[str], None] = lambda name: None
) -> Ascent:
    return Ascent(parts, cast(Supervisor, supervisor), lambda name: folder / f"{name}.log", once_ready)


def test_a_part_waits_for_what_it_needs_and_others_do_not(tmp_path: Path) -> None:
    supervisor = _Supervisor()
    answers = iter([False, False, True])
    kafka = _part("kafka", lambda: next(answers))
    job = _part("job", after=("kafka", "jobmanager"))  # the JobManager is not of this stack
    parts = [kafka, job, _part("worker")]
    _ascent(parts, supervisor, tmp_path, lambda name: supervisor.events.append(f"{name} is ready")).run(_Silent())
    assert supervisor.events == [
        "start kafka",
        "start worker",
        "worker is ready",
        "kafka is ready",
        "start job",
        "job is ready",
    ]


def test_a_part_that_dies_each_time_ends_the_way_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = _Supervisor(dying="worker")
    (tmp_path / "worker.log").write_text("early\n" * 50 + "no such model\n")
    with pytest.raises(PartFailed, match=r"worker dies each time it is started(?s:.*)no such model") as caught:
        _ascent([_part("kafka"), _part("worker", lambda: False)], supervisor, tmp_path).run(_Silent())
    assert str(caught.value).count("early") < 20
    assert supervisor.events[-2:] == ["stop kafka", "stop worker"]


def test_a_part_that_is_never_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ascent, "_PATIENCE_S", 0)
    with pytest.raises(PartFailed, match="kafka is not ready after 0 s"):
        _ascent([_part("kafka", lambda: False)], _Supervisor(), tmp_path).run(_Silent())


def test_interrupting_stops_only_what_was_started(tmp_path: Path) -> None:
    supervisor = _Supervisor()
    supervisor.start("kafka")

    def interrupt(*_: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ascent([_part("kafka"), _part("worker", interrupt)], supervisor, tmp_path).run(_Silent())
    assert supervisor.events == ["start kafka", "start worker", "stop worker"]
