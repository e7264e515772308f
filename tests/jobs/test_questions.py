"""One contract for every engine of the question index, and what is particular to the embedded one."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from forebay_jobs.caches import edge_shard
from forebay_jobs.caches.questions import EdgeIndex, Question, Removed, ServerIndex, SweepableIndex, Vector, open_index
from forebay_schemas.errors import ForebayError
from forebay_schemas.sections import SemanticConfig

from tests.builders import NOW_MS
from tests.small_disk import SmallDisk, no_small_disks

pytest.importorskip("qdrant_edge", reason="qdrant-edge-py is not installed")

SERVER = os.environ.get("FOREBAY_TEST_QDRANT_URL")
SETTINGS = SemanticConfig()
OpenIndex = Callable[[str], SweepableIndex]


def _edge(folder: Path) -> OpenIndex:
    return lambda version: open_index(SemanticConfig(path=folder), 3, version)


def _local(folder: Path) -> OpenIndex:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    return lambda version: ServerIndex(client, f"test-{version}", 3, SETTINGS)


def _server(folder: Path) -> OpenIndex:
    collection = f"test-{folder.name}-{os.getpid()}"
    return lambda version: open_index(SemanticConfig(url=SERVER, collection=collection), 3, version)


@pytest.fixture(
    params=[
        pytest.param(_edge, id="edge"),
        pytest.param(_local, id="client's local mode"),
        pytest.param(
            _server,
            id="server",
            marks=pytest.mark.skipif(not SERVER, reason="FOREBAY_TEST_QDRANT_URL names no Qdrant server"),
        ),
    ]
)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenIndex]:
    """Opens the index of an embedding model's version; all are closed in the end."""
    indexes: dict[str, SweepableIndex] = {}
    make = request.param(tmp_path)

    def open_version(version: str) -> SweepableIndex:
        indexes[version] = index = make(version)
        return index

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant")
        warnings.filterwarnings("ignore", "Local mode performs exact")
        yield open_version
    for index in indexes.values():
        index.close()


@pytest.fixture
def index(opened: OpenIndex) -> SweepableIndex:
    return opened("v1")


def question(number: int, context: str = "here") -> Question:
    return Question(
        digest=f"{number:032x}", context=context, category="default", tenant="acme", created_ms=NOW_MS + number
    )


def vector(*values: float) -> Vector:
    given = np.array(values, dtype=np.float32)
    return given / np.linalg.norm(given)


def nearest(index: SweepableIndex, asked: Vector, context: str = "here") -> str | None:
    (found,) = index.nearest(asked[None, :], [context], 1)
    return found[0].digest if found else None


def test_an_empty_index_knows_nothing(index: SweepableIndex) -> None:
    assert nearest(index, vector(1, 0, 0)) is None
    assert index.nearest(np.empty((0, 3), dtype=np.float32), [], 1) == []


def test_the_nearest_question_is_found_at_once_with_its_cosine(index: SweepableIndex) -> None:
    index.add(question(1), vector(1, 0, 0))
    index.add(question(2), vector(0, 1, 0))
    ((found,),) = index.nearest(vector(3, 4, 0)[None, :], ["here"], 1)
    assert found.digest == question(2).digest
    assert found.similarity == pytest.approx(0.8, abs=1e-5)
    ((opposite,),) = index.nearest(vector(-1, -1, 0)[None, :], ["here"], 1)
    assert opposite.similarity < 0


def test_several_come_by_falling_similarity(index: SweepableIndex) -> None:
    for number, known in enumerate((vector(1, 0, 0), vector(0, 1, 0), vector(1, 1, 0)), start=1):
        index.add(question(number), known)
    (found,) = index.nearest(vector(2, 1, 0)[None, :], ["here"], 2)
    assert [one.digest for one in found] == [question(3).digest, question(1).digest]
    (all_of_them,) = index.nearest(vector(2, 1, 0)[None, :], ["here"], 5)
    assert [one.digest for one in all_of_them] == [question(number).digest for number in (3, 1, 2)]


def test_only_questions_of_the_context_are_found(index: SweepableIndex) -> None:
    index.add(question(1, "here"), vector(1, 0, 0))
    index.add(question(2, "there"), vector(0, 1, 0))
    assert nearest(index, vector(0, 1, 0), "here") == question(1).digest
    assert nearest(index, vector(0, 1, 0), "there") == question(2).digest
    assert nearest(index, vector(0, 1, 0), "nowhere") is None


def test_a_tenant_and_a_user_are_forgotten_and_nobody_else(index: SweepableIndex) -> None:
    asked = [("acme", "ada"), ("acme", "bob"), ("acme", None), ("other", "ada")]
    for number, (tenant, user) in enumerate(asked, start=1):
        index.add(msgspec.structs.replace(question(number), tenant=tenant, user=user), vector(1, number, 0))
    assert index.forget("acme", "ada") == Removed(found=1, left=0)
    assert nearest(index, vector(1, 1, 0)) == question(2).digest
    assert index.forget("acme", None) == Removed(found=2, left=0)
    assert nearest(index, vector(1, 1, 0)) == question(4).digest
    assert index.forget("acme", None) == Removed(found=0, left=0)


def test_a_batch_is_answered_in_its_order(index: SweepableIndex) -> None:
    index.add(question(1, "here"), vector(1, 0, 0))
    index.add(question(2, "there"), vector(0, 1, 0))
    asked = np.stack([vector(0, 0, 1), vector(0, 1, 0), vector(1, 0, 0)])
    found = index.nearest(asked, ["there", "nowhere", "here"], 1)
    assert [[one.digest for one in near] for near in found] == [[question(2).digest], [], [question(1).digest]]


def test_a_question_that_is_added_again_is_replaced(index: SweepableIndex) -> None:
    index.add(question(1), vector(1, 0, 0))
    index.add(question(1), vector(0, 1, 0))
    ((found,),) = index.nearest(vector(0, 1, 0)[None, :], ["here"], 1)
    assert found.similarity == pytest.approx(1, abs=1e-5)
    index.remove(question(1).digest)
    assert nearest(index, vector(1, 0, 0)) is None


def test_a_question_that_is_removed_is_not_found_and_may_be_removed_again(index: SweepableIndex) -> None:
    index.add(question(1), vector(1, 0, 0))
    index.add(question(2), vector(0.9, 0.1, 0))
    index.remove(question(1).digest)
    index.remove(question(1).digest)
    assert nearest(index, vector(1, 0, 0)) == question(2).digest


def test_several_are_removed_at_once_and_none_at_all(index: SweepableIndex) -> None:
    for number in range(4):
        index.add(question(number), vector(1, number, 0))
    index.remove(*(question(number).digest for number in (0, 2, 9)))
    index.remove()
    assert [one.digest for one in index.page(None, 10).questions] == [question(1).digest, question(3).digest]


def test_all_questions_are_paged_through_in_the_order_of_their_digests(index: SweepableIndex) -> None:
    assert index.page(None, 2).questions == []
    assert index.count() == 0
    for number in (3, 0, 4, 1, 2):
        index.add(question(number), vector(1, number, 0))
    assert index.count() == 5
    begin, seen = None, []
    for size in (2, 2, 1):
        page = index.page(begin, 2)
        assert len(page.questions) == size
        seen += page.questions
        begin = page.next
    assert begin is None
    assert [(one.digest, one.created_ms) for one in seen] == [
        (question(number).digest, NOW_MS + number) for number in range(5)
    ]


def test_vectors_of_different_embedding_models_never_meet(opened: OpenIndex) -> None:
    opened("v1").add(question(1), vector(1, 0, 0))
    assert nearest(opened("v2"), vector(1, 0, 0)) is None


# The client


def test_a_collection_that_is_lost_at_run_time_is_made_again() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    index = ServerIndex(client, "test", 3, SETTINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index.add(question(1), vector(1, 0, 0))
        client.delete_collection("test")
        with pytest.raises(ValueError, match="not found"):
            nearest(index, vector(1, 0, 0))
        index.add(question(2), vector(1, 0, 0))
        assert nearest(index, vector(1, 0, 0)) == question(2).digest
    index.close()


# The embedded engine


def test_the_embedded_index_is_there_again_after_a_restart(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    index.add(question(1), vector(1, 0, 0))
    index.close()
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.add(question(2), vector(0, 1, 0))
    index.close()
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    assert nearest(index, vector(0, 1, 0)) == question(2).digest
    index.close()


def _in_another_process(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


HOLDER = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from forebay_jobs.caches.questions import EdgeIndex, Question
    from forebay_schemas.sections import SemanticConfig
    index = EdgeIndex(Path(sys.argv[1]), 3, SemanticConfig())
    question = Question(digest="1".zfill(32), context="here", category="c", tenant="t", created_ms=1)
    index.add(question, np.array([1, 0, 0], dtype=np.float32))
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_second_process_goes_on_without_it_until_the_first_ends_and_finds_what_that_wrote(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holder = _in_another_process(HOLDER, tmp_path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    assert re.search(r"cannot be opened.*semantic\.path: another process uses .* set semantic\.url", caplog.text)
    with pytest.raises(ForebayError, match="another process uses it"):
        nearest(index, vector(1, 0, 0))
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    # The lock went with the process.
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()


@pytest.mark.parametrize("damage", ["garbage", "nothing", "emptied"])
def test_a_damaged_folder_is_put_aside_and_an_empty_index_starts(tmp_path: Path, damage: str) -> None:
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    index.add(question(1), vector(1, 0, 0))
    index.close()
    files = [path for path in (tmp_path / "shard-1").rglob("*") if path.is_file()]
    for path in files:
        if damage == "garbage":
            path.write_bytes(b"\xff" * 64)
        elif damage == "nothing":
            path.unlink()
        else:
            path.write_bytes(b"")
    for _ in range(2):  # the second time, the remains of the first are in the way
        index = EdgeIndex(tmp_path, 3, SETTINGS)
        assert nearest(index, vector(1, 0, 0)) is None
        index.add(question(2), vector(1, 0, 0))
        index.close()
        for path in [path for path in (tmp_path / "shard-1").rglob("*.json") if path.is_file()]:
            path.write_bytes(b"{")


@pytest.fixture
def full_disk() -> Iterator[Callable[[], None]]:
    """No file of this process grows any more, until this is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def make_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    yield make_room
    make_room()


def test_an_index_that_a_full_disk_keeps_closed_opens_when_there_is_room(
    tmp_path: Path, full_disk: Callable[[], None]
) -> None:
    index = EdgeIndex(tmp_path, 3, SETTINGS)  # the job starts all the same
    with pytest.raises(Exception, match="File too large"):
        index.add(question(1), vector(1, 0, 0))
    full_disk()
    index.add(question(1), vector(1, 0, 0))
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Where an index lies, ``tmp_path / "disk"``."""
    if reason := no_small_disks():
        pytest.skip(reason)
    disk = SmallDisk(tmp_path / "disk", 4 * edge_shard.LEAST_FREE_BYTES)
    yield disk
    disk.unmount()


def test_a_disk_that_fills_up_is_written_to_again_when_there_is_room(tmp_path: Path, disk: SmallDisk) -> None:
    index = EdgeIndex(tmp_path / "disk", 3, SETTINGS)
    index.add(question(1), vector(1, 0, 0))
    disk.fill()
    for number in range(2, 2_000):  # written to, the maps of the engine would end the process
        with pytest.raises(OSError, match="No space left"):
            index.add(question(number), vector(0, 1, 0))
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()
    index = EdgeIndex(tmp_path / "disk", 3, SETTINGS)
    with pytest.raises(OSError, match="No space left"):
        nearest(index, vector(1, 0, 0))
    disk.make_room()
    index.add(question(2), vector(0, 1, 0))
    assert nearest(index, vector(0, 1, 0)) == question(2).digest
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()


def test_an_index_on_a_disk_that_takes_nothing_opens_when_it_does(tmp_path: Path, disk: SmallDisk) -> None:
    index = EdgeIndex(tmp_path / "disk", 3, SETTINGS)
    index.add(question(1), vector(1, 0, 0))
    index.close()
    disk.take_nothing()
    index = EdgeIndex(tmp_path / "disk", 3, SETTINGS)
    with pytest.raises(OSError, match="Read-only"):
        nearest(index, vector(1, 0, 0))
    disk.take_again()
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()


def test_an_index_without_its_folder_opens_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()  # where a folder should be
    index = EdgeIndex(tmp_path / "disk" / "index", 3, SETTINGS)
    with pytest.raises(OSError, match="Not a directory"):
        nearest(index, vector(1, 0, 0))
    (tmp_path / "disk").unlink()
    assert nearest(index, vector(1, 0, 0)) is None
    index.close()


GROWN = np.random.default_rng(1).normal(size=(12_000, 256)).astype(np.float32)
"""Enough for the engine to build a graph (10 MB), and to be optimised at all."""


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[EdgeIndex]:
    """An index that holds ``GROWN``."""
    index = EdgeIndex(tmp_path, 256, SETTINGS)
    for number, row in enumerate(GROWN):
        index.add(question(number), vector(*row))
    yield index
    index.close()


def finds_itself(index: EdgeIndex, number: int, row: Vector | None = None) -> bool:
    return nearest(index, vector(*(GROWN[number] if row is None else row))) == question(number).digest


def folders(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*") if path.is_dir()]


def test_the_embedded_index_is_optimised_while_it_serves_and_loses_nothing(
    grown: EdgeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimised = edge_shard._optimised
    late, gone = 20_000, 5_000

    def and_meanwhile(folder: Path, stop: threading.Event) -> bool:
        grown.add(question(late), vector(*-GROWN[0]))
        grown.remove(question(gone).digest)
        assert finds_itself(grown, late, -GROWN[0])
        assert not finds_itself(grown, gone)
        return optimised(folder, stop)

    monkeypatch.setattr(edge_shard, "_optimised", and_meanwhile)
    grown.optimise(threading.Event())
    assert folders(tmp_path) == ["shard-2"]
    assert grown.count() == len(GROWN)
    assert finds_itself(grown, late, -GROWN[0])
    assert not finds_itself(grown, gone)
    assert all(finds_itself(grown, number) for number in range(7, len(GROWN), 499))
    monkeypatch.setattr(edge_shard, "_optimised", lambda folder, stop: pytest.fail("nothing has changed since"))
    grown.optimise(threading.Event())


def test_an_optimising_that_is_stopped_or_fails_leaves_the_index_as_it_was(
    grown: EdgeIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    stop.set()
    grown.optimise(stop)
    monkeypatch.setattr(edge_shard.sys, "executable", "/bin/false")
    grown.optimise(threading.Event())
    assert folders(tmp_path) == ["shard-1"]
    grown.add(question(20_000), vector(*-GROWN[0]))
    assert finds_itself(grown, 20_000, -GROWN[0])
    assert finds_itself(grown, 77)


def test_what_a_killed_process_left_half_built_is_cleared_away(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    index.add(question(1), vector(1, 0, 0))
    index.close()
    (tmp_path / "building-abc").mkdir()
    shutil.copytree(tmp_path / "shard-1", tmp_path / "shard-2")  # killed between taking over and clearing away
    index = EdgeIndex(tmp_path, 3, SETTINGS)
    assert folders(tmp_path) == ["shard-2"]
    assert nearest(index, vector(1, 0, 0)) == question(1).digest
    index.close()
