"""Rows of a tenant or a user leave the ledger, whoever holds it and whichever step a crash hits; all others stay."""

import os
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from forebay_ops.ledger import forgetting
from forebay_ops.ledger.folder import FEEDBACK, LedgerFolder, current_files, read_progress
from forebay_ops.ledger.forgetting import NotForgotten, Whom, count, forget, is_wished
from forebay_schemas.config import Config

from tests.builders import NOW_MS, make_feedback, make_reply

from .made_up import DAY_MS, fill, fill_feedback, ledger_config
from .test_ledger import _Kill, _Killed

ADA, ACME = Whom(tenant="acme", user="ada"), Whom(tenant="acme")


def quiet(_: str) -> None:
    """Nobody watches."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return filled(ledger_config(tmp_path / "ledger"))


def filled(config: Config) -> Config:
    """Three replies a day on two days, to two users and to another tenant, and a complaint about each."""
    askers = [("acme", "ada"), ("acme", None), ("other", "ada")]
    replies = [
        make_reply(request_id=f"r{day}{place}", tenant=tenant, user=user, completed_ms=NOW_MS + day * DAY_MS)
        for day in range(2)
        for place, (tenant, user) in enumerate(askers)
    ]
    fill(config, replies, file_rows=2)
    # A judge's word on an answer names no user.
    fill_feedback(config, [make_feedback(request_id=one.request_id, tenant=one.tenant) for one in replies])
    return config


def request_ids(config: Config, folder: str = "") -> list[str]:
    tables = [pq.ParquetFile(file).read(["request_id"]) for file in current_files(config.ledger.folder / folder)]
    return sorted(name for table in tables for name in table["request_id"].to_pylist())


@pytest.mark.parametrize(
    ("whom", "rows", "left"),
    [(ADA, 2, ["r01", "r02", "r11", "r12"]), (ACME, 4, ["r02", "r12"]), (Whom(tenant="acm"), 0, None)],
    ids=["a user", "a tenant", "nobody"],
)
def test_their_rows_go_and_all_others_stay(config: Config, whom: Whom, rows: int, left: list[str] | None) -> None:
    root, before = config.ledger.folder, request_ids(config)
    ends = [read_progress(each).ends for each in (root, root / FEEDBACK)]
    assert count(root, whom) == {"replies": rows, "feedback": rows}
    forget(root, whom, 1.0, quiet)
    assert count(root, whom) == {"replies": 0, "feedback": 0}
    assert request_ids(config) == request_ids(config, FEEDBACK) == (before if left is None else left)
    assert [read_progress(each).ends for each in (root, root / FEEDBACK)] == ends


def test_it_is_seen_at_work_at_each_file(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    root, seen = config.ledger.folder, list[Path]()
    monkeypatch.setattr(LedgerFolder, "beat", lambda folder: seen.append(folder.root))
    files = [*current_files(root), *current_files(root / FEEDBACK)]
    forget(root, ACME, 1.0, quiet)
    assert len(seen) >= len(files) > 2
    assert set(seen) == {root}, "the folder that is looked at"


def test_whichever_step_a_crash_hits_it_is_finished_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk outlives this crash
    crashes = 0
    for at in range(1, 200):
        config = filled(ledger_config(tmp_path / f"crash-{at}"))
        root = config.ledger.folder
        with monkeypatch.context() as patched:
            kill = _Kill(patched, at)
            try:
                forget(root, ADA, 1.0, quiet)
            except _Killed:
                crashes += 1
            else:
                assert kill.left > 0
                break
        if is_wished(root):
            forget(root, Whom(tenant="nobody"), 1.0, quiet)  # whoever holds the folder next does all that is wished
            assert count(root, ADA) == {"replies": 0, "feedback": 0}, f"after a crash at step {at}"
        kept = ["r01", "r02", "r11", "r12"]
        assert set(request_ids(config)) - {"r00", "r10"} == set(kept), f"after a crash at step {at}"
        assert len(request_ids(config)) == len(set(request_ids(config)))
    assert crashes > 20


def test_while_another_holds_the_folder_it_is_that_ones_to_do(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    root = config.ledger.folder
    with closing(LedgerFolder(root)) as replies, closing(LedgerFolder(root / FEEDBACK)) as feedback:
        with pytest.raises(NotForgotten, match="has not done it within"):
            forget(root, ADA, 0.0, quiet)
        assert count(root, ADA) == {"replies": 2, "feedback": 2}
        assert forgetting.carry_out(replies, feedback) == 4
    assert not is_wished(root)
    assert count(root, ADA) == {"replies": 0, "feedback": 0}


def test_without_a_ledger_there_is_nothing_to_forget(tmp_path: Path) -> None:
    forget(tmp_path / "none", ACME, 1.0, quiet)
    assert count(tmp_path / "none", ACME) == {"replies": 0, "feedback": 0}
    assert not (tmp_path / "none").exists()
