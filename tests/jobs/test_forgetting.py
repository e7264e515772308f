"""What the job does when somebody is to be forgotten: the index and what was learned, told by each bucket."""

import pytest
from forebay_jobs.caches.questions import Question, Removed
from forebay_jobs.control import Commands
from forebay_jobs.forgetting import Forgetting
from forebay_jobs.messages import Forget
from forebay_jobs.reuse.memory import KEEP_EVERY_MS, LearnedMemory
from forebay_schemas import commands
from forebay_schemas.config import load_config
from forebay_schemas.records import Control

from tests.builders import NOW_MS
from tests.jobs.doubles import CODEC, MemoryAnswers, MemoryIndex, MemoryState, events
from tests.jobs.test_namespaces import Process
from tests.redis_server import RedisServer

BUCKETS = ("0.0", "1.0")


class _Index(MemoryIndex):
    """What the semantic cache is here."""

    def __init__(self) -> None:
        super().__init__()
        for number, (tenant, user) in enumerate([("acme", "ada"), ("acme", None), ("acmes", "ada")]):
            digest = f"{number:032x}"
            asked = Question(digest=digest, context="c", category="faq", tenant=tenant, user=user, created_ms=NOW_MS)
            self.add(asked, None)  # pyright: ignore[reportArgumentType]: nothing is looked up


class Job:
    """One process with two buckets, that has learned of two tenants."""

    def __init__(self, server: RedisServer) -> None:
        self.index = _Index()
        self.process = Process(server)
        for owner in ("tenant:acme", "tenant:acme\x1epricing@1", "tenant:acmes", "shared"):
            self.process.policy(owner=owner)
        self.process.learn()
        self.state = {bucket: MemoryState() for bucket in BUCKETS}
        self.memory = LearnedMemory(self.process.namespaces, BUCKETS)
        self.tend(0)
        self.forgetting = Forgetting(load_config(), CODEC, self.index, self.process.namespaces, BUCKETS)  # pyright: ignore[reportArgumentType]

    def tend(self, now_ms: int) -> None:
        self.process.sync()
        for bucket, state in self.state.items():
            self.memory.tend(state, bucket, now_ms)

    def owners_kept(self) -> set[str]:
        return {key.split(":faq")[0].split(":", 7)[-1] for state in self.state.values() for key in state.learned()}

    def take(self, command: Forget) -> list[dict[str, str]]:
        """What each bucket says."""
        sent = [self.forgetting.take(state, bucket, command, NOW_MS) for bucket, state in self.state.items()]
        return [event.attributes for records in sent for event in events(records)]


@pytest.fixture
def job(redis_server: RedisServer) -> Job:
    return Job(redis_server)


def test_a_tenant_is_forgotten_in_all_arms_and_does_not_come_back(job: Job, redis_server: RedisServer) -> None:
    assert job.owners_kept() == {"tenant:acme", "tenant:acme\x1epricing@1", "tenant:acmes", "shared"}
    told = job.take(Forget(id="one", tenant="acme"))
    assert [one["bucket"] for one in told] == list(BUCKETS)
    assert {one["buckets"] for one in told} == {"2"}
    assert (sum(int(one["found"]) for one in told), sum(int(one["left"]) for one in told)) == (4, 0)
    job.tend(KEEP_EVERY_MS)
    assert job.owners_kept() == {"tenant:acmes", "shared"}
    assert sorted(key.split(b":")[-2] for key in redis_server.client().keys("*:learned:*")) == [b"acmes", b"shared"]


def test_of_a_user_the_questions_go_and_the_sums_of_the_tenant_stay(job: Job) -> None:
    told = job.take(Forget(id="one", tenant="acme", user="ada"))
    assert [(one["found"], one["left"]) for one in told] == [("1", "0"), ("0", "0")]
    assert "tenant:acme" in job.owners_kept()
    assert job.index.forget("acmes", "ada") == Removed(found=1)


def test_an_index_that_is_away_is_told_of(job: Job) -> None:
    job.index.broken = True
    first, second = job.take(Forget(id="one", tenant="acme"))
    assert "the index cannot be reached" in first["problem"]
    assert "problem" not in second


def test_the_command_is_read_and_one_that_names_nobody_is_passed_over() -> None:
    take = Commands(CODEC, MemoryAnswers(load_config())).take
    given = commands.forget("acme", "ada", "one", issued_by="test", issued_ms=NOW_MS)
    assert take(CODEC.encode(given), "llm.control/0/1") == Forget(id="one", tenant="acme", user="ada")
    for arguments in ({"tenant": "acme"}, {"id": "one"}, {"id": "one", "tenant": "acme", "user": ""}):
        control = Control(key="forget/1", command="forget", issued_ms=NOW_MS, issued_by="t", arguments=arguments)
        assert take(CODEC.encode(control), "llm.control/0/1") is None
