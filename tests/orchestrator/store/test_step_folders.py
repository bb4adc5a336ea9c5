"""The store keeps what was written whole, notices what was not, and lets one run at a time work on a step."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease
from orchestrator.store.records import DamagedRecord, read_record, write_json_atomically, write_record
from orchestrator.store.step_folders import PAGE, StepFolder, Store
from orchestrator.store.step_leases import leased


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    folder = Store(tmp_path).step("train", "0123456789abcdef")
    folder.create({"job": "letters"})
    return folder


def dead_lease(run: str = "dead") -> Lease:
    """The lease of a process of this machine that has ended."""
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    mine = Lease.by_this_process(run)
    return Lease(run, mine.host, int(process.stdout), mine.process_started - 100, time.time())


def test_a_step_is_done_only_after_it_was_marked(folder: StepFolder) -> None:
    (folder.output / "weights").write_bytes(b"1234")
    assert not folder.done()
    folder.mark_done()
    assert folder.done()
    folder.unmark_done()
    assert not folder.done()


@pytest.mark.parametrize("damage", ["missing", "shorter", "changed"])
def test_an_output_that_is_no_longer_whole_is_noticed(folder: StepFolder, damage: str) -> None:
    file = folder.output / "sub" / "weights"
    file.parent.mkdir()
    file.write_bytes(b"1234")
    folder.mark_done()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"123" if damage == "shorter" else b"1235")
    with pytest.raises(DamagedRecord, match="weights"):
        folder.done()


@pytest.mark.parametrize("damage", ["missing", "shorter", "changed", "a folder"])
@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "artifacts/curve.csv"])
def test_what_a_finished_step_tracked_is_verified_and_its_output_stays_done(
    folder: StepFolder, name: str, damage: str
) -> None:
    (folder.output / "weights").write_bytes(b"1234")
    for each in ("run.json", "metrics.jsonl", "artifacts/curve.csv", f"artifacts/{PAGE}"):
        file = folder.path / "tracked" / "curve" / each
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1234")
    folder.mark_done()
    (folder.path / "tracked" / "curve" / "artifacts" / PAGE).write_bytes(b"written again")
    assert folder.verify_tracked() == 3
    file = folder.path / "tracked" / "curve" / name
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage != "missing":
        file.write_bytes(b"123" if damage == "shorter" else b"1235")
    with pytest.raises(DamagedRecord, match=name):
        folder.verify_tracked()
    assert folder.verify() == (1, 4)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_record_is_noticed_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("record") / "record.json"
    record = {"files": {"a": {"bytes": 3, "sha256": "00ff"}}, "time": 1.5}
    write_record(path, record)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(bytes(content))
    with contextlib.suppress(DamagedRecord):
        assert read_record(path) == record


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    script = (
        "import sys; from pathlib import Path; from orchestrator.store.records import write_json_atomically as write\n"
        "for n in range(300): write(Path(sys.argv[1]), [n] * 2000)"
    )
    write_json_atomically(path, [0] * 2000)
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)])
    reads = 0
    while writer.poll() is None:
        value = json.loads(path.read_text())
        assert len(value) == 2000
        assert len(set(value)) == 1
        reads += 1
    assert writer.returncode == 0
    assert reads > 10
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json_atomically(path, {"kept": True})
    with pytest.raises(TypeError):
        write_json_atomically(path, {"no json": object()})
    assert json.loads(path.read_text()) == {"kept": True}
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a b", "é", "x" * 65, "-x"])
def test_names_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a step's name"):
        Store(tmp_path).step(name, "0" * 16)


def test_other_versions_are_of_the_same_name_and_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folders = [store.step(name, digit * 16) for name, digit in (("a", "1"), ("a", "2"), ("a", "3"), ("a-b", "4"))]
    for age, folder in enumerate(folders):
        folder.create({})
        os.utime(folder.path / "identity.json", (1000 + age, 1000 + age))
    assert [other.fingerprint[0] for other in store.others(folders[0])] == ["3", "2"]


def test_a_live_lease_keeps_others_away_and_its_release_lets_them_in(folder: StepFolder) -> None:
    mine, other = Lease.by_this_process("mine"), Lease.by_this_process("other")
    with leased([folder], mine), pytest.raises(StoreError, match="being worked on by run mine"):
        folder.acquire(other)
    folder.acquire(other)
    assert folder.live_lease() == other


def test_the_lease_of_a_dead_process_is_taken_over_and_its_renewal_refused(folder: StepFolder) -> None:
    dead = dead_lease()
    folder.acquire(dead)
    assert folder.live_lease() is None
    mine = Lease.by_this_process("mine")
    folder.acquire(mine)
    assert not folder.renew(dead)
    assert folder.renew(mine)
    assert folder.live_lease() is not None


def test_a_lease_from_another_machine_counts_by_its_heartbeat(folder: StepFolder) -> None:
    fresh = Lease("far", "another-machine", 1, 0.0, time.time())
    folder.acquire(fresh)
    assert folder.live_lease() == fresh
    stale = Lease("far", "another-machine", 1, 0.0, time.time() - 31)
    write_json_atomically(folder.path / "leases" / "00000001.json", vars(stale))
    assert folder.live_lease() is None


def test_of_several_steps_all_are_leased_or_none(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folders = [store.step("a", digit * 16) for digit in "123"]
    for folder in folders:
        folder.create({})
    folders[1].acquire(Lease.by_this_process("other"))
    with pytest.raises(StoreError), leased(folders, Lease.by_this_process("mine")):
        pass
    assert [folder.live_lease() is not None for folder in folders] == [False, True, False]


def test_a_store_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(StoreError, match=r"cannot be written: .*choose another with store:"):
        Store(blocker / "runs").check_writable()


def test_a_flipped_bit_in_a_file_too_large_for_every_look_is_found_by_verify(
    folder: StepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.step_folders.VERIFIED_IN_FULL", 3)
    (folder.output / "weights").write_bytes(b"1234")
    folder.mark_done()
    assert folder.verify() == (1, 4)
    (folder.output / "weights").write_bytes(b"1235")
    assert folder.done(), "its size is what it was"
    with pytest.raises(DamagedRecord, match="weights does not match its checksum"):
        folder.verify()
    assert not folder.done(), "from now on it is made again"


@pytest.mark.parametrize("content", ["{", "[]", '{"state": 3}', '{"state": "done", "checksum": "0"}', "NaN"])
def test_a_damaged_note_is_one_line_and_goes_for_none(
    folder: StepFolder, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.path / "status.json").write_text(content)
    assert folder.read_status() == folder.read_status() == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert "status.json is" in line
    assert line.endswith("remove the file to silence this line")
    folder.write_status(state="running")
    assert folder.read_status() == {"state": "running"}
