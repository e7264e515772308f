"""Learning on a stack of its own: two backends of known quality, audits and thumbs, and the public commands.

Only the backends know what is right, and who measures: the router learns from audits and thumbs alone.
"""

import datetime as dt
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from forebay_client import Client, Reply
from forebay_ops.cli import forebay
from forebay_ops.cli.exits import FOUND
from forebay_ops.cli.moments import now
from forebay_ops.outcomes.reading import read_outcomes
from forebay_ops.rollouts.moving import Mover
from forebay_schemas.categories import CategoryConfig
from forebay_schemas.config import load_config
from forebay_schemas.live_rollouts import superseded
from forebay_schemas.prices import cost
from forebay_schemas.records import Lane
from forebay_schemas.rollouts import Stage
from forebay_schemas.tiers import ModelConfig

from ..known_quality import EASY, HARD, Backends, questions
from ..provider import serving
from ..waiting import eventually
from .conftest import SETTINGS, RunningStack, stack_up
from .traffic import users_of

TENANT = "acme"
ROUND = 300
"""Questions to learn from: of 200 that can be learned from, and more where their audits come too late."""
MEASURED = 150
LABELLED = 60
"""Questions of `forebay parity`."""
AT_ONCE = 16
QUICK = {"min-minutes": 0, "min-replies": 20, "errors": 0.4, "slower": 1000, "escalations": 0.4, "complaints": 0.4,
         "shadow-share": 1}  # fmt: skip
HOW = ("--unit", "user", *(word for name, value in QUICK.items() for word in ("--guard", f"{name}={value}")))


@pytest.fixture(scope="module")
def backends() -> Backends:
    return Backends(HARD)


@pytest.fixture(scope="module")
def learning(backends: Backends) -> Iterator[RunningStack]:
    """A stack of two tiers, each with a model of known quality, whose judge goes by their words and audits all."""
    with serving(lambda question, model: backends.text(model, question)) as url:
        config = load_config(SETTINGS)
        endpoint = {"url": url, "concurrency": AT_ONCE}
        models = {
            name: ModelConfig.model_validate({"backend": "openai", "endpoint": endpoint, "price": price})
            for name, price in (
                ("small", {"input_per_1k": 0.001, "output_per_1k": 0.002}),
                ("large", {"input_per_1k": 0.01, "output_per_1k": 0.02}),
            )
        }
        tiers = {
            name: config.tiers[name].model_copy(update={"model": name, "priced_as": None, "complexity_up_to": upper})
            for name, upper in (("small", 0.5), ("large", 1.0))
        }
        # Compared by meaning, and never reused: no two questions are equal.
        category = CategoryConfig.model_validate(
            {"policy": "fixed", "similarity": 1, "judge": {"by": "text"}, "escalation": {"min_confidence": 0}}
        )
        changes = {
            "models": models,
            "tiers": tiers,
            "categories": {"default": category},
            "router": config.router.model_copy(update={"weights": "none"}),
            "audits": config.audits.model_copy(update={"share": 1}),
        }
        with stack_up(config.model_copy(update=changes)) as running:
            yield running


@dataclass(frozen=True)
class Round:
    """What came of some questions.

    Attributes:
        right: share of right answers.
        cost: in units of what the oracle's answers would cost.
    """

    right: float
    cost: float


class Users:
    """Ask questions, some at a time, and say of one answer in ten what to think of it."""

    def __init__(self, client: Client, running: RunningStack, backends: Backends) -> None:
        self._client = client
        self._backends = backends
        self._questions = enumerate(questions())
        self.names = ["somebody"]
        """Who asks, in turn."""
        self._room = threading.Semaphore(AT_ONCE)
        self._asked: dict[str, str] = {}
        self._replies: dict[str, Reply] = {}
        self._config = running.config

    def ask(self, count: int) -> Round:
        """Ask so many questions, and wait for the answers."""
        names = {self._send() for _ in range(count)}
        eventually(lambda: self._replies.keys() >= names, f"{count} answers")
        replies = [self._replies[name] for name in sorted(names)]
        assert [reply for reply in replies if reply.error] == []
        for reply in replies[::10]:
            self._client.feedback(reply.request_id, "up" if self._right(reply) else "down", tenant=TENANT)
        oracle = sum(self._oracle_cost(reply) for reply in replies)
        return Round(sum(map(self._right, replies)) / count, sum(reply.cost for reply in replies) / oracle)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the end of the block."""
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                self._send()

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()
            eventually(lambda: len(self._replies) == len(self._asked), "a reply to each")

    def arm(self) -> str | None:
        """The arm in which a question is answered now."""
        return self._client.ask(next(self._questions)[1], tenant=TENANT, timeout_s=60).arm

    def _send(self) -> str:
        number, question = next(self._questions)
        name = f"learning-{number}"
        assert self._room.acquire(timeout=120), "no reply came"
        self._asked[name] = question
        user = self.names[number % len(self.names)]
        self._client.publish(question, on_reply=self._take, request_id=name, tenant=TENANT, user=user)
        return name

    def _take(self, reply: Reply) -> None:
        self._replies[reply.request_id] = reply
        self._room.release()

    def _right(self, reply: Reply) -> bool:
        return reply.text == self._backends.text("large", self._asked[reply.request_id])

    def _oracle_cost(self, reply: Reply) -> float:
        tier = self._backends.oracle(self._asked[reply.request_id])
        return cost(reply.usage, self._config.price(tier), Lane.INTERACTIVE)


def test_it_learns_from_audits_and_feedback_notices_a_change_and_recovers(
    learning: RunningStack, backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_CONFIG", str(learning.stack.home.config))
    labelled = _labelled(tmp_path / "labelled.jsonl", backends)
    with closing(Mover(learning.config)) as mover, learning.client() as client:
        users = Users(client, learning, backends)
        began = now()
        by_rules = users.ask(ROUND)
        assert by_rules.right < 0.6  # all the questions look easy
        _audited(learning, ROUND, began)
        assert "rules" in _run("router", "drift", "--by-scorer", code=FOUND)
        parity = ("parity", labelled, "--tolerance", 0.25, "--timeout", 60)
        assert "beyond" in _run(*parity, code=FOUND)

        _learn(users, mover, tmp_path, "first", began)
        before = now()
        learned = users.ask(MEASURED)
        assert learned.right > 0.9
        assert 0.85 < learned.cost < 1.15
        assert "within" in _run(*parity)
        _audited(learning, MEASURED, before)

        # The small model is changed behind its name, and half of what it could do it cannot do any more.
        changed = now()
        backends.beyond = (*HARD, *EASY[:2])
        worse = users.ask(ROUND)
        assert worse.right < 0.85
        _audited(learning, ROUND, changed)
        _run("router", "drift", "--since", changed.isoformat(), code=FOUND)

        _learn(users, mover, tmp_path, "second", changed)  # over the first, which answers everybody until then
        assert [one.name for one in superseded(mover.known().values())] == ["first"]
        recovered = users.ask(MEASURED)
        assert recovered.right > 0.88
        assert 0.8 < recovered.cost < 1.15


def _learn(users: Users, mover: Mover, folder: Path, name: str, since: dt.datetime) -> None:
    """Retrain, and wait until what is better answers everybody, from shadow on by itself."""
    _run("router", "retrain", "--since", since.isoformat(), "--name", name, "--out", folder, *HOW)
    users.names = users_of(mover.known()[name], TENANT)

    def at_the_end() -> bool:
        rollout = mover.known()[name]
        assert rollout.stage.live, rollout.history[-1].why
        return rollout.stage is Stage.ALL

    with users.asking():
        eventually(at_the_end, f"{name} answers everybody", poll_s=0.5)
    stages = [step.stage for step in mover.known()[name].history]
    assert stages == [Stage.SHADOW, Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL]
    eventually(lambda: users.arm() == mover.known()[name].arm, "the job has read of it")


def _audited(running: RunningStack, count: int, since: dt.datetime) -> None:
    """Wait until most of so many answers are audited."""

    def audits() -> int:
        return len(read_outcomes(running.config, round(since.replace(tzinfo=dt.UTC).timestamp() * 1000)).audits)

    eventually(lambda: audits() > 0.9 * count, f"audits of {count} answers", poll_s=1)


def _labelled(file: Path, backends: Backends) -> Path:
    """Questions with the right answers, as `forebay parity` takes them."""
    some = itertools.islice(questions(), LABELLED)
    lines = [{"question": each, "tenant": TENANT, "answer": backends.text("large", each)} for each in some]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def _run(*arguments: object, code: int = 0) -> str:
    """What a command prints, which ends with this code."""
    result = CliRunner().invoke(forebay, list(map(str, arguments)))
    assert result.exit_code == code, (result.output, result.exception)
    return result.output
