"""Checkpoints in a gang of one, this process: what is written when, what is kept, and what counts as a checkpoint."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from s3fs import S3FileSystem
from torch.distributed.checkpoint import filesystem
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter

from jobs.finetune.checkpoint import Checkpoints
from jobs.finetune.checkpoint_files import CheckpointFolder
from orchestrator.job.errors import StepError
from tests.finetune.buckets import CREDENTIALS, new_bucket, s3_server

RECIPE = {"batch_size": 8, "model": {"layers": 2}}


class Numbers:
    """A strategy of two tensors, each full of one number."""

    def __init__(self, value: float = 0.0, size: int = 1000):
        self.weight = torch.full((size,), value)
        self.moment = torch.full((size,), -value)

    def state(self) -> dict[str, Any]:
        return {"model": {"weight": self.weight}, "optimizer": {"moment": self.moment}}

    def load_state(self, state: dict[str, Any]) -> None:
        assert state["model"]["weight"].data_ptr() == self.weight.data_ptr()

    def become(self, value: float) -> None:
        self.weight.fill_(value)
        self.moment.fill_(-value)

    @property
    def value(self) -> float:
        (value,) = {*self.weight.tolist(), *(-self.moment).tolist()}
        return value


@pytest.fixture(autouse=True)
def gang() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_server() as environment:
        yield environment


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment that leads to a server of S3's protocol, which this process now has."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=["folder", "bucket"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointFolder:
    """Where checkpoints go: a folder, and a bucket."""
    if request.param == "folder":
        return CheckpointFolder(str(tmp_path / "checkpoints"))
    return CheckpointFolder(f"s3://{new_bucket(request.getfixturevalue('s3'))}/some/key")


def checkpoints(
    folder: CheckpointFolder, *, every: int = 1, keep: int = 3, recipe: dict[str, Any] = RECIPE
) -> Checkpoints:
    return Checkpoints(folder, recipe, every=every, keep=keep)


def train(folder: CheckpointFolder, steps: int, *, every: int = 1, keep: int = 3) -> None:
    """After step n all numbers are n."""
    numbers = Numbers()
    with checkpoints(folder, every=every, keep=keep) as saved:
        for step in range(1, steps + 1):
            numbers.become(step)
            saved.after(step, numbers, last=step == steps)


def restored(folder: CheckpointFolder) -> tuple[int, float]:
    numbers = Numbers()
    with checkpoints(folder) as saved:
        return saved.restore(numbers), numbers.value


def steps_in(folder: CheckpointFolder) -> list[int]:
    return [step for step, _ in folder.whole()]


def test_the_latest_checkpoint_is_restored(folder: CheckpointFolder) -> None:
    assert restored(folder) == (0, 0.0)
    train(folder, 3)
    assert restored(folder) == (3, 3.0)


def test_checkpoints_are_written_when_due_and_after_the_last_step(folder: CheckpointFolder) -> None:
    train(folder, 7, every=3, keep=9)
    assert steps_in(folder) == [7, 6, 3]


def test_the_log_says_how_large_a_checkpoint_is_where_it_goes_and_how_long_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(str(tmp_path / "checkpoints"))
    numbers = Numbers(size=1_000_000)
    with checkpoints(folder, every=5) as saved:
        saved.restore(numbers)
        saved.after(5, numbers, last=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"A checkpoint, every 5 steps, has 0.008 GB: {folder.location}"
    size, seconds, rate = map(
        float, re.fullmatch(rf"Wrote (\S+) GB in (\S+) s, (\S+) GB/s, to {folder.step(5)}", second).groups()
    )
    written = sum(file.stat().st_size for file in Path(folder.step(5)).glob("*") if file.name != "complete.json")
    assert size == pytest.approx(written / 1e9, rel=0.01)
    assert 0 <= seconds < 60
    assert rate >= 0


def test_the_last_few_are_kept(folder: CheckpointFolder) -> None:
    train(folder, 6, keep=2)
    assert steps_in(folder) == [6, 5]
    assert sorted(folder._numbers()) == [5, 6]


def test_nothing_is_left_of_a_removed_folder(folder: CheckpointFolder) -> None:
    train(folder, 2)
    folder.remove()
    assert steps_in(folder) == []
    folder.remove()


def test_a_checkpoint_without_its_marker_is_none(folder: CheckpointFolder) -> None:
    train(folder, 3)
    folder._files.rm_file(f"{folder.step(3)}/complete.json")
    assert restored(folder) == (2, 2.0)


@pytest.mark.parametrize("file", ["__0_0.distcp", ".metadata", "complete.json"])
def test_a_checkpoint_with_a_file_cut_short_is_none(folder: CheckpointFolder, file: str) -> None:
    train(folder, 3)
    path = f"{folder.step(3)}/{file}"
    content = folder._files.cat_file(path)
    folder._files.pipe_file(path, content[: len(content) // 2])
    assert restored(folder) == (2, 2.0)


def test_a_checkpoint_that_lost_a_file_is_none(folder: CheckpointFolder) -> None:
    train(folder, 3)
    folder._files.rm_file(f"{folder.step(3)}/__0_0.distcp")
    assert restored(folder) == (2, 2.0)


def test_what_a_crash_left_is_overwritten_or_dropped_by_the_next_checkpoints(folder: CheckpointFolder) -> None:
    train(folder, 4)
    for step in (3, 4):
        folder._files.rm_file(f"{folder.step(step)}/complete.json")
    folder._files.pipe_file(f"{folder.step(3)}/__7_0.distcp", b"of a worker that is no more")
    numbers = Numbers()
    with checkpoints(folder) as saved:
        assert saved.restore(numbers) == 2
        numbers.become(3)
        saved.after(3, numbers, last=True)
    assert sorted(folder._numbers()) == [2, 3]
    assert restored(folder) == (3, 3.0)
    assert not folder._files.exists(f"{folder.step(3)}/__7_0.distcp")


def test_a_checkpoint_that_cannot_be_read_gives_way_to_an_earlier_one(
    folder: CheckpointFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    train(folder, 3)
    path = f"{folder.step(3)}/__0_0.distcp"
    folder._files.pipe_file(path, b"?" * len(folder._files.cat_file(path)))
    assert restored(folder) == (2, 2.0)
    assert "step-00000003 is damaged, trying an earlier one" in capsys.readouterr().out


def test_a_checkpoint_that_could_not_be_read_does_not_outlive_those_written_after(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    train(folder, 9, every=4)
    for step in (8, 9):
        path = Path(folder.step(step), "__0_0.distcp")
        path.write_bytes(b"?" * path.stat().st_size)
    numbers = Numbers()
    with checkpoints(folder, every=5, keep=1) as saved:
        assert saved.restore(numbers) == 4
        numbers.become(5)
        saved.after(5, numbers, last=False)
    assert folder._numbers() == [5]
    assert restored(folder) == (5, 5.0)


def test_a_file_system_that_fails_while_reading_is_an_error_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(str(tmp_path))
    train(folder, 2)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(FsspecReader, "read_data", fail)
    with pytest.raises(StepError, match="cannot be used \\(Input/output error\\)"):
        restored(folder)
    assert steps_in(folder) == [2, 1]


def test_checkpoints_that_are_all_damaged_are_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    train(folder, 1)
    path = Path(folder.step(1), "__0_0.distcp")
    path.write_bytes(b"\x00" * path.stat().st_size)
    with pytest.raises(StepError, match=r"none of the 1 checkpoints in .* can be read; remove that folder"):
        restored(folder)


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    write_data = FsspecWriter.write_data

    def write_when_told(*arguments: Any) -> Any:
        assert go_on.wait(30)
        return write_data(*arguments)

    monkeypatch.setattr(FsspecWriter, "write_data", write_when_told)
    numbers = Numbers(1.0)
    with checkpoints(folder) as saved:
        saved.after(1, numbers, last=False)
        numbers.become(99.0)
        assert steps_in(folder) == []
        go_on.set()
    assert restored(folder) == (1, 1.0)


def test_writing_never_touches_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written was copied before. A thread that asked for a stream would get GPU 0's, in every worker."""
    touched: list[str] = []

    class Stream:
        device_type = "cuda"

        def synchronize(self) -> None:
            touched.append("synchronised")

        def wait_stream(self, other: object) -> None:
            touched.append("waited")

    class Device:
        only = Stream()

        def current_stream(self) -> Stream:
            touched.append(f"asked for a stream in {threading.current_thread().name}")
            return self.only

        @contextmanager
        def stream(self, stream: Stream) -> Iterator[None]:
            yield

    folder = CheckpointFolder(str(tmp_path))
    numbers = Numbers(1.0, size=4_000_000)
    with checkpoints(folder) as saved:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(filesystem, "_get_available_device_type", lambda: "cuda")
        monkeypatch.setattr(filesystem, "_get_device_module", lambda kind: Device())
        saved.after(1, numbers, last=True)
    monkeypatch.undo()
    assert touched == []
    with checkpoints(folder) as saved:
        assert saved.restore(numbers) == 1


def test_a_full_disk_is_one_line_and_earlier_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    train(folder, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    numbers = Numbers(3.0, size=100_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    try:
        with (
            pytest.raises(
                StepError, match=r"^resources.checkpoints: [^\n]* cannot be used \(File too large\)[^\n]*kept$"
            ),
            checkpoints(folder) as saved,
        ):
            saved.after(3, numbers, last=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(folder._numbers()) == [1, 2]
    assert restored(folder) == (2, 2.0)


def test_a_failed_checkpoint_is_noticed_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = CheckpointFolder(str(tmp_path))
    numbers = Numbers(1.0)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(FsspecWriter, "write_data", fail)
    saved = checkpoints(folder, every=10)
    saved.after(10, numbers, last=False)
    assert saved._writing is not None
    wait([saved._writing[1]])
    with pytest.raises(StepError, match="Input/output error"):
        saved.after(11, numbers, last=False)


def test_a_checkpoint_of_another_model_is_refused(folder: CheckpointFolder) -> None:
    train(folder, 1)
    with (
        pytest.raises(
            StepError,
            match=r"^resources.checkpoints: [^\n]*step-00000001 is of another model \(training.model.weight is "
            r"\[1000\] there and \[1001\] here\); choose another folder, or remove that one$",
        ),
        checkpoints(folder) as saved,
    ):
        saved.restore(Numbers(size=1001))


def test_a_checkpoint_with_tensors_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    class Smaller(Numbers):
        def state(self) -> dict[str, Any]:
            return {"model": {"weight": self.weight}, "optimizer": {}}

    folder = CheckpointFolder(str(tmp_path))
    train(folder, 1)
    with (
        pytest.raises(StepError, match=r"another model \(training.optimizer.moment is \[1000\] there and None here\)"),
        checkpoints(folder) as saved,
    ):
        saved.restore(Smaller())


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    train(folder, 1)
    with (
        pytest.raises(StepError, match=r"is of another run \(batch_size is 8 there and 16 here\)"),
        checkpoints(folder, recipe=RECIPE | {"batch_size": 16}) as saved,
    ):
        saved.restore(Numbers())


def test_a_bucket_that_is_not_there_or_refuses_is_one_line(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    name = new_bucket(s3)
    CheckpointFolder(f"s3://{name}/key").check_writable()
    assert CheckpointFolder(f"s3://{name}/key")._listed(f"s3://{name}/key") == {}
    line = r"^resources.checkpoints: s3://[^\n]* cannot be used \({}\): see that the bucket exists[^\n]*$"
    with pytest.raises(StepError, match=line.format("The specified bucket does not exist")):
        CheckpointFolder("s3://no-such-bucket/key").check_writable()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    S3FileSystem.clear_instance_cache()
    with pytest.raises(StepError, match=line.format("Unable to locate credentials")):
        CheckpointFolder(f"s3://{name}/key").check_writable()


def test_a_bucket_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        S3FileSystem.clear_instance_cache()
        with pytest.raises(
            StepError, match=r"^resources.checkpoints: s3://bucket/key cannot be used \(Could not connect"
        ):
            CheckpointFolder("s3://bucket/key").check_writable()
    S3FileSystem.clear_instance_cache()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StepError, match=r"^resources.checkpoints: [^\n]*/file/x cannot be used \(Not a directory\)"):
        CheckpointFolder(str(tmp_path / "file" / "x")).check_writable()
