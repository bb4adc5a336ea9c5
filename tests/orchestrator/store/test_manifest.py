"""What a finished step consists of is known from what was written, and not from reading it again."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate.samples import SCHEMA, samples_file
from jobs.made_dataset import Lines
from orchestrator.store.manifest import hashed_file, manifest_of
from orchestrator.store.records import DamagedRecord, read_record
from orchestrator.store.step_folders import DELIVERED, StepFolder, Store
from orchestrator.store.working_files import InPlace

LARGE = 20 << 20


@pytest.fixture
def folder(tmp_path: Path) -> StepFolder:
    folder = Store(tmp_path).step("train", "0123456789abcdef")
    folder.create({"job": "letters"})
    return folder


def bytes_read() -> int:
    """By this process, as the kernel counts them, from whatever is read by a call."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def write_large(path: Path) -> None:
    with hashed_file(path) as file:
        for start in range(0, LARGE, 1 << 20):
            file.write(bytes([start >> 20]) * (1 << 20))


def job(folder: Path) -> None:
    write_large(folder / "output" / ".weights")
    (folder / "output" / ".weights").rename(folder / "output" / "weights")
    (folder / "output" / "card").write_text("small")
    InPlace(folder).deliver()


def test_20_megabytes_are_not_read_until_they_are_verified_and_then_a_flipped_bit_is_found(folder: StepFolder) -> None:
    weights = Path(folder.output / "weights")
    before = bytes_read()
    job(folder.path)
    folder.mark_done()
    assert folder.done()
    assert bytes_read() - before < 1 << 20
    written = read_record(folder.path / "done.json")["files"]["weights"]
    assert written == {"bytes": LARGE, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert folder.verify() == (2, LARGE + len("small"))
    with weights.open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(bytes([(LARGE // 2 >> 20) ^ 1]))
    assert folder.done(), "only its size is looked at"
    with pytest.raises(DamagedRecord, match="weights does not match its checksum"):
        folder.verify()


def test_what_another_process_wrote_is_not_read_by_the_one_that_marks_it_done(folder: StepFolder) -> None:
    worker = multiprocessing.get_context("fork").Process(target=job, args=[folder.path])
    worker.start()
    worker.join()
    before = bytes_read()
    InPlace(folder.path).deliver()  # by the process that the worker belongs to
    folder.mark_done()
    assert bytes_read() - before < 1 << 20
    assert folder.verify() == (2, LARGE + len("small"))


@pytest.mark.parametrize("change", ["rewritten", "longer", "touched"])
def test_what_changed_after_it_was_written_or_delivered_is_read(folder: StepFolder, change: str) -> None:
    weights = Path(folder.output / "weights")
    with hashed_file(weights) as file:
        file.write(b"1234")
    if change != "rewritten":
        InPlace(folder.path).deliver()
    weights.write_bytes(b"12345" if change == "longer" else b"4321")
    os.utime(weights, ns=(0, 1))
    folder.mark_done()
    assert manifest_of(folder.output)["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert folder.verify()


def test_a_damaged_account_of_what_was_delivered_only_costs_the_reading(folder: StepFolder) -> None:
    job(folder.path)
    (folder.path / DELIVERED).write_text("{")
    folder.mark_done()
    assert folder.verify() == (2, LARGE + len("small"))


def test_datasets_and_samples_are_hashed_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lines(tmp_path / "train.jsonl") as lines:
        lines.add({"question": "é"})
    with samples_file(tmp_path / "samples.parquet") as add:
        add(SCHEMA.empty_table())
    with hashed_file(tmp_path / "large.parquet") as file, pq.ParquetWriter(file, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist([{"answer": "x" * 100} for _ in range(1000)], SCHEMA))
    contents = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in tmp_path.iterdir()}
    monkeypatch.setattr("orchestrator.store.local_storage.LocalStorage.digest", lambda self: f"{self.path} was read")
    assert {name: file["sha256"] for name, file in manifest_of(tmp_path).items()} == contents
    assert json.loads((tmp_path / "train.jsonl").read_text()) == {"question": "é"}
    assert pq.read_metadata(tmp_path / "large.parquet").num_rows == 1000


def test_it_is_written_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    with hashed_file(tmp_path / "file") as file:
        file.write(b"12")
        with pytest.raises(io.UnsupportedOperation, match="not seekable"):
            file.seek(0)
        assert file.tell() == 2
