"""Rollouts under traffic: a bad model undoes itself and nobody notices, a good one reaches everybody through kills."""

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

from forebay_client import Client
from forebay_ops.rollouts.moving import Mover
from forebay_schemas.live_rollouts import start
from forebay_schemas.records import CacheStatus, Reply
from forebay_schemas.rollouts import Guards, Rollout, Stage, Unit, roll_back

from ..waiting import eventually
from .conftest import RunningStack
from .traffic import Inbox, users_of

QUICK = Guards(
    min_minutes=0, min_replies=20, errors=0.4, slower=1_000, escalations=0.4, complaints=0.4, shadow_share=1.0
)
BY = {"who": "ada", "why": "a test"}


class Traffic:
    """Users of each share of a rollout ask, each in turn, and all that they are answered is kept."""

    def __init__(self, client: Client, rollout: Rollout) -> None:
        self.inbox = Inbox()
        self.common = f"Which pumps are {rollout.name}?"
        """Asked by everybody again and again, so that answers are there to be shared."""
        self.users = users_of(rollout, "staged")
        self._client = client
        self._room = threading.Semaphore(16)
        self._name = rollout.arm
        self._sent = 0

    @property
    def replies(self) -> list[Reply]:
        return [reply for came in list(self.inbox.replies.values()) for reply in came]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Ask until the end of the block; then wait for all replies."""
        stop = threading.Event()

        def send() -> None:
            for number, user in enumerate(itertools.cycle(self.users)):
                if stop.is_set():
                    return
                if self._room.acquire(timeout=1):
                    self.ask(user, self.common if number % 5 == 0 else f"How heavy is pump {number} of {self._name}?")

        sender = threading.Thread(target=send)
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()
        eventually(lambda: len(self.inbox) == self._sent, "a reply to each", timeout_s=240)

    def ask(self, user: str, words: str) -> None:
        self._sent += 1
        self._client.publish(
            words,
            on_reply=self._take,
            request_id=f"{self._name} {self._sent}",
            tenant="staged",
            user=user,
            category="staged",
            max_tokens=6,
        )

    def _take(self, reply: Reply) -> None:
        self.inbox.take(reply)
        self._room.release()


def _begun(mover: Mover, running: RunningStack, name: str, stage: Stage = Stage.TEN, **of_small: str) -> Rollout:
    overrides = {f"tiers.small.{setting}": f'"{value}"' for setting, value in of_small.items()}
    how = {"unit": Unit.USER, "guards": QUICK, "stage": stage, **BY}
    return mover.move(lambda known, now_ms: start(known, name, overrides, running.config, **how, now_ms=now_ms))


def _keeps_apart(replies: list[Reply]) -> bool:
    """Whether whatever was given again was given in the arm that it was generated in."""
    arms = {reply.request_id: reply.arm for reply in replies}
    given = [reply for reply in replies if reply.matched_request_id is not None]
    return all(arms[reply.matched_request_id or ""] == reply.arm for reply in given)


def test_a_bad_model_undoes_itself_and_nobody_is_told_of_it(running: RunningStack) -> None:
    with closing(Mover(running.config)) as mover, running.client() as client:
        rollout = _begun(mover, running, "bad", model="broken")
        traffic = Traffic(client, rollout)
        with traffic.flowing():
            eventually(lambda: mover.known()["bad"].stage is Stage.ROLLED_BACK, "the rollback")
        assert mover.known()["bad"].history[-1].why.startswith("errors: ")
    replies = traffic.replies
    assert {reply.arm for reply in replies} == {None, rollout.arm}
    assert not [reply for reply in replies if reply.error]
    assert {reply.model_id for reply in replies} == {"tiny"}
    assert _keeps_apart(replies)


def test_a_good_model_reaches_everybody_though_processes_are_killed_and_leaves_nothing_behind(
    running: RunningStack,
) -> None:
    with closing(Mover(running.config)) as mover, running.client() as client:
        rollout = _begun(mover, running, "good", model="steady")
        traffic = Traffic(client, rollout)

        def at(stage: Stage) -> bool:
            held = mover.known()["good"].stage
            assert held.live
            return held is stage

        with traffic.flowing():
            eventually(lambda: at(Stage.FIFTY), "the stage 50")
            killed = {part: running.stack.pid(part) or 0 for part in ("rollouts", "taskmanager", "worker")}
            for pid in killed.values():
                os.kill(pid, signal.SIGKILL)
            eventually(lambda: at(Stage.ALL), "the stage 100", timeout_s=240)
        assert all(running.stack.pid(part) not in (None, pid) for part, pid in killed.items())
        stages = [step.stage for step in mover.known()["good"].history]
        assert stages == [Stage.TEN, Stage.FIFTY, Stage.NINETY, Stage.ALL]  # each once: nothing was lost or repeated
        replies = traffic.replies
        assert len(replies) == len(traffic.inbox)
        assert not [reply for reply in replies if reply.error]
        assert {(reply.arm, reply.model_id) for reply in replies} == {(None, "tiny"), (rollout.arm, "steady")}
        assert _keeps_apart(replies)
        assert [reply for reply in replies if reply.arm and reply.cache_status is CacheStatus.EXACT]

        def asked(words: str = traffic.common) -> Reply:
            return client.ask(words, tenant="staged", user="user-0", category="staged", max_tokens=6, timeout_s=60)

        eventually(lambda: asked().arm == rollout.arm, "everybody gets it", timeout_s=10)

        # In shadow over it, answers with other words: nobody sees one, and they end it.
        _begun(mover, running, "unseen", Stage.SHADOW, system_prompt="Be brief.")
        numbers = itertools.count()

        def undone() -> bool:
            reply = asked(f"How deep may pump {next(numbers)} stand?")
            assert (reply.arm, reply.model_id, reply.error) == (rollout.arm, "steady", None)
            return mover.known()["unseen"].stage is Stage.ROLLED_BACK

        eventually(undone, "its shadow answers end it", poll_s=0.2)  # the batch lane waits for such pauses
        assert mover.known()["unseen"].history[-1].why.startswith("agreement: 0.0%, below 80.0%")
        assert not [reply for reply in running.replies() if reply.request_id.startswith("shadow-")]

        mover.move(lambda known, now_ms: roll_back(known["good"], **BY, now_ms=now_ms))
        eventually(lambda: asked().arm is None, "nobody gets it any more", timeout_s=10)
        assert asked().model_id == "tiny"
