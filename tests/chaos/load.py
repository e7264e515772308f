"""The steady load: services of several tenants, each a process, callers of the gateway, and a nightly batch."""

import contextlib
import csv
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import msgspec
from forebay_client import Batch
from forebay_ops.local.home import Home
from forebay_schemas.config import Config
from forebay_schemas.errors import ForebayError

from ..waiting import eventually
from .answers import answer, question
from .breakable import Surroundings
from .checker import Checker
from .crowd import refusal
from .publisher import Event

SERVICES = 2
RATE_PER_S = 6.0
"""Of each service."""
_ROWS = 400
_LEAVE_S = 90
_DECLARED = ("429 ", "503 ", "504 ")
"""What callers of the gateway may be told while something is broken: to come again, or that it is late."""


class Service:
    """One publishing process after the other: the next takes the place of one that was killed."""

    def __init__(
        self, name: str, home: Home, settings: Mapping[str, str], checker: Checker, deadline_s: float | None
    ) -> None:
        self._name, self._home, self._settings, self._checker = name, home, settings, checker
        self._given = [str(RATE_PER_S), *([] if deadline_s is None else [str(deadline_s)])]
        self._lives = itertools.count(1)
        self.start()

    def start(self) -> None:
        self.life = f"{self._name}.{next(self._lives)}"
        environment = {**os.environ, **self._settings}
        command = [sys.executable, "-m", "tests.chaos.publisher", self.life, *self._given]
        with (self._home.logs / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the suite, which ends its load in order
            )
        self._checker.living.add(self.life)
        self._listening = threading.Thread(target=self._listen, args=(self.life,), daemon=True)
        self._listening.start()

    @property
    def pid(self) -> int:
        """Of the process that publishes now."""
        return self._process.pid

    def say(self, word: str) -> None:
        """``pause``, ``resume``, or ``rate`` with a number."""
        assert self._process.stdin is not None
        assert self._process.poll() is None, f"{self.life} has ended by itself; its log says why"
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def end(self, number: signal.Signals) -> None:
        """Send it a signal that ends it, and wait for that; what it still awaits is not lost with SIGTERM."""
        self._checker.living.discard(self.life)
        if number is signal.SIGKILL:
            self._checker.killed.add(self.life)
        self._process.send_signal(number)
        self._process.wait(_LEAVE_S)
        self._listening.join()

    def _listen(self, life: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(msgspec.DecodeError):  # the last line of one that was killed
                self._checker.told(life, msgspec.json.decode(line, type=Event))


class Callers:
    """Someone who asks the gateway one question after the other, and asks again when the connection breaks."""

    def __init__(self, gateway_port: int) -> None:
        self._url = f"http://127.0.0.1:{gateway_port}/v1/chat/completions"
        self._stop = threading.Event()
        self.going = threading.Event()
        self.going.set()
        self.calling = False
        self.answered = 0
        self.wrong = 0
        self.told = Counter[str]()
        """Errors: one of a connection that breaks says nothing, and is not counted."""
        self._thread = threading.Thread(target=self._call_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it finish the call that it makes."""
        self._stop.set()
        self.going.set()
        self._thread.join(_LEAVE_S)

    def _call_on(self) -> None:
        for subject in itertools.count():
            self.going.wait()
            if self._stop.is_set():
                return
            asked = question("default", subject)
            text = self._call(asked)
            if text is not None:
                self.answered += 1
                self.wrong += text != answer(asked)

    def _call(self, asked: str) -> str | None:
        body = {"model": "small", "messages": [{"role": "user", "content": asked}]}
        self.calling = True
        try:
            while not self._stop.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    response = httpx.post(self._url, json=body, timeout=60)
                    if response.status_code == 200:
                        return response.json()["choices"][0]["message"]["content"]
                    self.told[refusal(response)] += 1
                self._stop.wait(0.2)
        finally:
            self.calling = False
        return None


class Nightly:
    """A batch of rows, submitted by a process that is started again whenever it is gone, until all are answered."""

    def __init__(self, config: Config, home: Home, settings: Mapping[str, str]) -> None:
        self._config, self._home, self._settings = config, home, settings
        self._folder = home.root / "nightly"
        self._folder.mkdir()
        self._runs = itertools.count(1)
        self._process: subprocess.Popen[str] | None = None
        self._batch: Batch | None = None
        self._ended_wrong = False

    def half_done(self) -> bool:
        """Begins a batch where none runs; whether the one that runs has some answers, and not all."""
        if self._process is None or self._process.poll() is not None:
            self._ended_wrong |= not self._ended_right()
            self._begin()
        with contextlib.suppress(ForebayError):
            assert self._batch is not None
            return 0 < self._batch.status().answered < _ROWS
        return False

    @property
    def pid(self) -> int:
        """Of the process that submitted the batch and waits for it."""
        assert self._process is not None
        return self._process.pid

    def interrupt(self, number: signal.Signals) -> None:
        """End the process by a signal, and give the same command again."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(_LEAVE_S)
        self._submit()

    def finish(self) -> bool:
        """Wait for the batch that runs; whether every row of each batch has its own answer, once."""
        return self._ended_right() and not self._ended_wrong

    def _ended_right(self) -> bool:
        if self._process is None:
            return True
        if self._process.wait(600):
            return False
        with self._written().open(newline="") as text:
            found = [(row["asked"], row["answer"]) for row in csv.DictReader(text)]
        return len(found) == _ROWS and all(said == answer(asked) for asked, said in found)

    def _begin(self) -> None:
        self._number = next(self._runs)
        with self._file().open("w", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(["asked"])
            writer.writerows([question("nightly", self._number * 10_000 + row)] for row in range(_ROWS))
        self._submit()
        assert self._process is not None
        assert self._process.stdout is not None
        name = self._process.stdout.readline().strip()
        self._batch = Batch(name, config=self._config, journals=self._folder / "beside")

    def _submit(self) -> None:
        command = [sys.executable, "-m", "forebay_ops.cli", "batch", "submit", str(self._file()), "--tenant", "nightly"]
        command += ["--template", "{asked}", "--wait", "--journal", str(self._folder)]
        environment = {**os.environ, **self._settings}
        with (self._home.logs / "nightly.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )

    def _file(self) -> Path:
        return self._folder / f"rows-{self._number}.csv"

    def _written(self) -> Path:
        return self._folder / f"rows-{self._number}.output.csv"


class Load:
    """All of it.

    Args:
        around: through which clients and callers find the stack.
        deadline_s: of the services' interactive requests; absent: they have none.
    """

    def __init__(
        self,
        config: Config,
        home: Home,
        around: Surroundings,
        checker: Checker,
        deadline_s: float | None,
    ) -> None:
        settings = around.client_settings(home)
        names = [f"service-{number}" for number in range(1, SERVICES + 1)]
        self.services = [Service(name, home, settings, checker, deadline_s) for name in names]
        self.callers = Callers(around.gateway_port)
        self.nightly = Nightly(config, home, settings)
        self.problems: list[str] = []
        """What is wrong with what callers and the batch got, once the load has ended."""
        self._ended = False

    def pause(self) -> None:
        """Send nothing until ``resume``."""
        self.callers.going.clear()
        for service in self.services:
            service.say("pause")

    def resume(self) -> None:
        self.callers.going.set()
        for service in self.services:
            service.say("resume")

    def offer(self, rate_per_s: float) -> None:
        """Let the services together publish so much from now on."""
        for service in self.services:
            service.say(f"rate {rate_per_s / SERVICES}")

    def stop(self) -> None:
        """Let all of it end in order, unless it has."""
        if self._ended:
            return
        self._ended = True
        self.callers.stop()
        for service in self.services:
            service.end(signal.SIGTERM)
        if self.callers.wrong:
            self.problems.append(f"{self.callers.wrong} answers through the gateway are another question's")
        undeclared = {told: count for told, count in self.callers.told.items() if not told.startswith(_DECLARED)}
        self.problems += [f"{count} calls of the gateway were told: {told}" for told, count in undeclared.items()]
        if not self.nightly.finish():
            self.problems.append("a batch did not end with the right answer to each row")


@contextlib.contextmanager
def under_load(
    config: Config,
    home: Home,
    around: Surroundings,
    checker: Checker,
    deadline_s: float | None,
) -> Iterator[Load]:
    """A load that is answered already; for its arguments see ``Load``."""
    load = Load(config, home, around, checker, deadline_s)
    try:
        eventually(lambda: checker.answered_since(0) and load.callers.answered, "the load is answered")
        yield load
    finally:
        load.stop()
