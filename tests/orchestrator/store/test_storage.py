"""A store in a bucket: records, leases, logs and copies of it, on a server of S3's protocol that may go away."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from s3fs import S3FileSystem
from upath import UPath

from jobs.evaluate.traces.files import Index, read_tokens, write
from orchestrator.finished import finished as named
from orchestrator.garbage import unreachable
from orchestrator.job.context import StepContext, StepInput
from orchestrator.logs import follow
from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease
from orchestrator.store.records import DamagedRecord, read_json, write_json_atomically
from orchestrator.store.step_folders import DELIVERED, StepFolder, Store
from orchestrator.store.step_leases import leased
from orchestrator.store.storage import complaint, storage_of, storage_path
from orchestrator.store.working_copy import working_copy
from tests.evaluate.traces.killed_writer import UNITS, assert_nothing_is_lost
from tests.evaluate.traces.test_trace_files import EXTENTS, quiet, unit_segments
from tests.finetune.buckets import CREDENTIALS, Door, new_bucket
from tests.orchestrator.store.test_step_folders import dead_lease


@pytest.fixture
def root(server: dict[str, str], reached: None) -> UPath:
    """An empty store."""
    root = storage_path(f"s3://{new_bucket(server)}/store")
    assert not isinstance(root, Path)
    return root


@pytest.fixture
def folder(root: UPath) -> StepFolder:
    folder = Store(root).step("train", "0123456789abcdef")
    folder.create({"job": "letters"})
    return folder


def context(folder: StepFolder, inputs: dict[str, StepInput] | None = None) -> StepContext:
    root = Store(folder.path.parent)
    return StepContext("experiment", "train", folder.fingerprint, folder.path, root.traces, inputs or {})


def finished(folder: StepFolder, content: bytes = b"1234") -> StepFolder:
    """The step, as a process of it left it."""
    within = context(folder)
    (within.output / "sub").mkdir(parents=True)
    (within.output / "sub" / "weights").write_bytes(content)
    within.deliver()
    within.leave()
    folder.mark_done()
    return folder


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("memory://runs", "lives in one process"),
        ("https://example.com/runs", "cannot be written"),
        ("s4://bucket/runs", "is not a known kind of storage"),
        ("s3:///runs", "names no bucket"),
        ("s3://key:secret@bucket/runs", "set them in the environment"),
    ],
)
def test_a_location_that_cannot_be_a_store_is_said_in_one_line(location: str, said: str) -> None:
    problem = complaint(location)
    assert problem is not None
    assert said in problem
    assert "\n" not in problem
    assert "secret" not in problem
    with pytest.raises(StoreError, match=r"^store: "):
        storage_path(location)


def test_a_bucket_without_its_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert complaint("gs://bucket/runs") == (
        "gs://bucket/runs needs the package gcsfs, which is not installed: pip install gcsfs"
    )


def test_a_file_uri_is_a_folder() -> None:
    assert storage_path("file:///some/runs") == Path("/some/runs")
    assert storage_path("runs") == Path("runs")


def test_a_place_can_be_sent_to_other_processes(root: UPath) -> None:
    storage_of(root / "file").write_bytes(b"content")
    assert storage_of(pickle.loads(pickle.dumps(root)) / "file").read_bytes() == b"content"


def test_of_many_who_create_one_object_one_succeeds(root: UPath) -> None:
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(lambda number: storage_of(root / "lease").write_once(b"%d" % number), range(16)))
    assert sum(won) == 1
    assert storage_of(root / "lease").read_bytes() == b"%d" % won.index(True)


def test_of_many_runs_that_find_an_abandoned_step_one_gets_it(folder: StepFolder) -> None:
    dead = dead_lease()
    folder.acquire(dead)
    assert folder.live_lease() is None

    def take(number: int) -> bool:
        try:
            folder.acquire(Lease.by_this_process(f"run-{number}"))
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(take, range(8)))
    assert sum(won) == 1
    holder = folder.live_lease()
    assert holder is not None
    assert holder.run == f"run-{won.index(True)}"
    assert folder.renew(holder)
    assert not folder.renew(dead)
    folder.release("dead")
    assert folder.live_lease() == folder.leases.latest()
    folder.release(holder.run)
    assert folder.live_lease() is None


def test_a_live_lease_keeps_others_away_and_its_release_lets_them_in(folder: StepFolder) -> None:
    mine, other = Lease.by_this_process("mine"), Lease.by_this_process("other")
    with leased([folder], mine), pytest.raises(StoreError, match="being worked on by run mine"):
        folder.acquire(other)
    folder.acquire(other)
    assert folder.live_lease() == other


def test_a_lease_from_another_machine_counts_by_its_heartbeat(folder: StepFolder) -> None:
    far = Lease("far", "another-machine", 1, 0.0, time.time() - 31)
    folder.acquire(far)
    assert folder.live_lease() is None
    assert folder.renew(far)
    assert folder.live_lease() is not None


def test_a_step_is_done_once_what_it_delivered_was_marked(folder: StepFolder) -> None:
    with pytest.raises(StoreError, match=r"nothing in .*output says that it was written whole"):
        folder.mark_done()
    finished(folder)
    assert folder.done()
    folder.unmark_done()
    assert not folder.done()
    with pytest.raises(StoreError):
        folder.mark_done()


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_an_output_that_is_no_longer_whole_is_noticed(folder: StepFolder, damage: str) -> None:
    finished(folder)
    if damage == "missing":
        (folder.output / "sub" / "weights").unlink()
    else:
        storage_of(folder.output / "sub" / "weights").write_bytes(b"123")
    with pytest.raises(DamagedRecord, match="weights"):
        folder.done()


def test_what_was_delivered_replaces_what_an_earlier_attempt_delivered(folder: StepFolder) -> None:
    storage_of(folder.output / "old").write_bytes(b"old")
    finished(folder)
    assert list(storage_of(folder.output).files()) == ["sub/weights"]


def test_an_output_is_fetched_once_and_only_as_it_was_written(folder: StepFolder, root: UPath) -> None:
    finished(folder)
    made = StepInput("train", folder.fingerprint, folder.output)
    first = made.output
    assert (first / "sub" / "weights").read_bytes() == b"1234"
    storage_of(folder.output / "sub" / "weights").write_bytes(b"4321")
    assert made.output == first, "it is here already"
    (first / "sub" / "weights").unlink()
    (first / "sub").rmdir()
    first.rmdir()
    with pytest.raises(StoreError, match="sub/weights is not what was written there"):
        made.output.exists()
    assert not list(first.parent.glob(f".{first.name}-*"))


def test_what_one_process_shares_others_have_until_it_is_removed(folder: StepFolder) -> None:
    within = context(folder)
    assert not within.shared("data").exists()
    within.shared("data").mkdir(parents=True)
    (within.shared("data") / "ids").write_bytes(b"12")
    within.share("data")
    within.leave()
    other = context(folder)
    assert (other.shared("data") / "ids").read_bytes() == b"12"
    other.unshare("data")
    assert not other.shared("data").exists()
    assert not storage_of(folder.path / "data").files()
    other.leave()


def test_a_tracked_run_goes_on_where_an_earlier_attempt_was(folder: StepFolder) -> None:
    for attempt in range(2):
        within = context(folder)
        run = within.track("training", {}, group="training")
        run.rewind(5 * attempt)
        for step in range(5 * attempt, 10):
            run.metrics({"loss": attempt}, step + 1)
        within.send()
        within.leave()
    lines = (folder.tracked / "training" / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines]
    assert [value["step"] for value in values] == list(range(1, 11))
    assert [value["values"]["loss"] for value in values] == [0] * 5 + [1] * 5


def test_a_copy_sends_by_itself_and_goes_with_its_process(folder: StepFolder) -> None:
    copy = working_copy(folder.path)
    copy.keep_sending()
    context(folder).progress(1, 2, "steps")
    (copy.folder / "unfinished").mkdir()
    (copy.folder / "unfinished" / "file").touch()
    deadline = time.monotonic() + 60
    while not folder.read_progress():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "unfinished/file" not in storage_of(folder.path).files()
    copy.leave()
    assert not copy.folder.exists()


def test_the_copy_of_a_killed_process_is_cleared_by_the_next(folder: StepFolder) -> None:
    copy = working_copy(folder.path)
    left = copy.folder.with_name("left")
    left.mkdir()
    (left / ".alive").touch()
    copy.leave()
    working_copy(folder.path).leave()
    assert not left.exists()


def test_followed_logs_come_line_by_line(folder: StepFolder) -> None:
    storage_of(folder.logs / "rank-0.txt").write_bytes(b"a\nhalf")
    calls = 0

    def ended() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            storage_of(folder.logs / "rank-0.txt").write_bytes(b"a\nhalf and half\nno end")
        return calls == 2

    assert list(follow(folder.logs, ended)) == [("rank-0", "a"), ("rank-0", "half and half"), ("rank-0", "no end")]


def test_garbage_is_found_and_deleted(folder: StepFolder, root: UPath) -> None:
    storage_of(root / "traces" / ("a" * 16) / "x.parquet").write_bytes(b"x" * 2000)
    storage_of(root / "notes" / "mine").write_bytes(b"")
    garbage = list(unreachable(Store(root), []))
    assert [(each.within, each.size > 0, each.changed > 1e9) for each in garbage] == [
        (folder.path.name, True, True),
        (f"traces/{'a' * 16}", True, True),
    ]
    for each in garbage:
        each.remove()
    assert list(storage_of(root).files()) == ["notes/mine"]


def test_traces_are_written_read_and_set_aside_when_damaged(root: UPath) -> None:
    for item in ("a", "b"):
        write(root, unit_segments(item))
    index = Index(root, quiet)
    known = index.unit("a", 0)
    assert known.extents == EXTENTS
    assert next(read_tokens(index.places(known.rows))) == tuple(range(20))
    first = next(iter(storage_of(root).files()))
    content = storage_of(root / first).read_bytes()
    assert content is not None
    storage_of(root / first).write_bytes(content[: len(content) // 2])
    said: list[str] = []
    index = Index(root, said.append)
    assert len(said) == 1
    assert first in said[0]
    assert index.unit("a", 0).extents == {}
    assert index.unit("b", 0).extents == EXTENTS
    assert [name.rpartition(".")[2] for name in storage_of(root).files()] == ["damaged", "parquet"]


def test_a_replica_killed_at_random_moments_loses_nothing_acknowledged_in_a_bucket(root: UPath) -> None:
    moments, acknowledged = random.Random(1), Counter[str]()
    for number in range(3):
        command = [sys.executable, "-m", "tests.evaluate.traces.killed_writer", str(root), str(number), "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged += Counter(writer.stdout.readline().strip() for _ in range(moments.randrange(1, UNITS)))
            time.sleep(moments.random() / 4)
            writer.kill()
            acknowledged += Counter(writer.stdout.read().split())
        assert_nothing_is_lost(root, acknowledged)
    assert len(acknowledged) > 10
    subprocess.run(command, check=True)
    assert_nothing_is_lost(root, acknowledged)


def test_ranges_of_a_large_trace_file_are_read(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.evaluate.traces.parquet.READ_WHOLE", 100)
    write(root, unit_segments("a", length=20_000))
    index = Index(root, quiet)
    known = index.unit("a", 0)
    assert sum(map(len, read_tokens(index.places(known.rows)))) == 20_003


@contextmanager
def cut_off(monkeypatch: pytest.MonkeyPatch, patience: float) -> Iterator[None]:
    """An address at which nobody answers, in the place of the server's."""
    with socket.socket() as nobody, monkeypatch.context() as patch:
        nobody.bind(("127.0.0.1", 0))
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        patch.setenv("ORCHESTRATOR_STORE_PATIENCE", str(patience))
        S3FileSystem.clear_instance_cache()
        yield
    S3FileSystem.clear_instance_cache()


def test_a_bucket_that_does_not_answer_is_no_damage_and_one_line(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, unit_segments("a"))
    line = r"^store s3://[^\n]* cannot be used \(Could not connect[^\n]*what is there is kept$"
    with cut_off(monkeypatch, patience=0.1):
        away = storage_path(str(root))
        with pytest.raises(StoreError, match=line):
            Index(away, quiet)
        with pytest.raises(StoreError, match=line):
            write_json_atomically(away / "record", {})
        with pytest.raises(StoreError, match=line):
            read_json(away / "record")
        with pytest.raises(StoreError, match=line):
            Store(away).check_reachable()
        with pytest.raises(StoreError, match=line), named(f"{root}/sweep-0123456789abcdef", "sqlite:///none.db"):
            pass
    assert Index(root, quiet).unit("a", 0).extents == EXTENTS


def test_a_bucket_that_two_runs_could_take_for_their_own_is_one_line(
    root: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditional = S3FileSystem._pipe_file

    async def unconditional(self: S3FileSystem, path: str, data: bytes, mode: str) -> None:
        await conditional(self, path, data)

    monkeypatch.setattr(S3FileSystem, "_pipe_file", unconditional)
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"^store s3://\S* creates what is there already, so two runs [^\n]*$"):
        Store(root).check_writable()
    assert storage_of(root).files() == {}
    S3FileSystem.clear_instance_cache()


def test_a_bucket_that_is_not_there_or_refuses_is_one_line(root: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(root).check_reachable()
    Store(root).check_writable()
    assert storage_of(root).files() == {}
    with pytest.raises(
        StoreError, match=r"^store s3://no-such-bucket/[^\n]*The specified bucket does not exist[^\n]*$"
    ):
        Store(storage_path("s3://no-such-bucket/runs")).check_writable()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"^store s3://[^\n]*\(Unable to locate credentials\)[^\n]*$"):
        Store(root).check_reachable()


def test_a_bucket_that_is_away_for_a_while_is_waited_for(
    server: dict[str, str], root: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three writers and a lease, at a door that is shut for three seconds."""
    door = Door(server)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", door.environment["AWS_ENDPOINT_URL"])
        S3FileSystem.clear_instance_cache()
        away = storage_path(str(root), patience=30)
        with ThreadPoolExecutor(4) as threads:
            writing = [threads.submit(write, away, unit_segments(f"item {number}")) for number in range(3)]
            leasing = threads.submit(storage_of(away / "lease").write_once, b"mine")
            time.sleep(3)
            assert not any(each.done() for each in (*writing, leasing))
            door.open()
            for each in writing:
                each.result()
            assert leasing.result()
    S3FileSystem.clear_instance_cache()
    door.shut()
    index = Index(root, quiet)
    assert [index.unit(f"item {number}", 0).extents for number in range(3)] == [EXTENTS] * 3


def test_a_full_disk_is_one_line_and_leaves_the_old_record(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "status.json", {"state": "running"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match=r"^no space left in [^\n]* is kept$"):
            write_json_atomically(tmp_path / "status.json", ["x" * 2000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_json(tmp_path / "status.json") == {"state": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_what_does_not_fit_on_this_machine_is_one_line(folder: StepFolder) -> None:
    finished(folder, b"x" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StoreError, match=r"^no space left in [^\n]* set ORCHESTRATOR_CACHE to another folder"):
            StepInput("train", folder.fingerprint, folder.output).output.exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert StepInput("train", folder.fingerprint, folder.output).output.is_dir()


def test_credentials_are_in_no_file_of_the_store(folder: StepFolder) -> None:
    finished(folder)
    stored = b"".join(storage_of(folder.path / name).read_bytes() or b"" for name in storage_of(folder.path).files())
    assert DELIVERED in storage_of(folder.path).files()
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() not in stored
