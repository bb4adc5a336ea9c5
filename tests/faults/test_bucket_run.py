"""A whole experiment whose store is a bucket, on a server of S3's protocol: killed, cancelled, continued."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest

from jobs.evaluate.traces.files import Index
from orchestrator.store.records import read_json
from orchestrator.store.storage import storage_of, storage_path
from tests.finetune.buckets import Door, new_bucket
from tests.orchestrator.workplace import SLOW, Workplace, all_gone, descendants, name_of

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

T = TypeVar("T")

TEXT = """
name: bucket
store: {store}
steps:
  letters:
    job: letters
    train: 640
    test: 240
  tiny:
    job: finetune
    model: {{random: qwen2, layers: 1, hidden_size: 64}}
    data: ${{letters}}
    batch_size: 16
    resources: {{workers: 1, checkpoint_every: 10}}
  sweep:
    job: evaluate
    model: ${{tiny}}
    tasks: ["${{letters}}"]
    budgets: [8, 16]
    extensions: {{strings: [Wait], counts: [1]}}
    max_answer_tokens: 8
    resources: {{in_flight: 1}}
"""


@pytest.fixture
def bucket(server: dict[str, str], reached: None) -> StoragePath:
    """A store in a bucket, which this process can reach."""
    return storage_path(f"s3://{new_bucket(server)}/experiments")


@pytest.fixture
def door(server: dict[str, str]) -> Iterator[Door]:
    """The way to the bucket of the processes that are started; open."""
    door = Door(server)
    door.open()
    yield door
    door.shut()


@pytest.fixture
def workplace(bucket: StoragePath, door: Door, tmp_path: Path) -> Iterator[Workplace]:
    folder = tmp_path / "work"
    folder.mkdir()
    workplace = Workplace(folder)
    workplace.environment |= door.environment
    workplace.file.write_text(TEXT.format(store=bucket))
    yield workplace
    for process in workplace.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(run: subprocess.Popen[str], look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if found := look():
            return found
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def kill(run: subprocess.Popen[str]) -> None:
    """Kills the driver, and waits until the work has ended with it."""
    working = [each for each in descendants(run) if any(word in name_of(each) for word in ("raylet", "ray::"))]
    run.kill()
    run.communicate()
    until_gone(working)


def until_gone(processes: list[psutil.Process]) -> None:
    """Ray's agents on a node notice only after a minute that their driver was killed; the work ends with it."""
    deadline = time.monotonic() + 60
    while not all_gone([each for each in processes if "Agent" not in name_of(each)]):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def step(store: StoragePath, name: str) -> StoragePath | None:
    return next((folder for folder in storage_of(store).folders() if folder.name.startswith(f"{name}-")), None)


def checkpointed(store: StoragePath) -> bool:
    tiny = step(store, "tiny")
    return tiny is not None and any(name.endswith("complete.json") for name in storage_of(tiny / "checkpoints").files())


def decoded(store: StoragePath) -> int:
    """Files of traces."""
    return sum(name.endswith(".parquet") for name in storage_of(store / "traces").files())


def assert_all_is_there_once(store: StoragePath) -> StoragePath:
    """Every unit of the sweep, and no token twice; returns the folder of its traces."""
    (traces,) = storage_of(store / "traces").folders()
    index = Index(traces, pytest.fail)
    units = {(item, sample) for item, sample in index._units}
    assert len(units) == 240
    assert sum(len(index.unit(*unit).rows) for unit in units) == index.size, "a token was decoded twice"
    return traces


def test_a_bucket_that_is_gone_for_good_ends_the_run_in_one_line(
    workplace: Workplace, bucket: StoragePath, door: Door
) -> None:
    workplace.file.write_text(f"name: words\nstore: {bucket}\nsteps:\n  letters: {{job: letters, train: {SLOW}}}\n")
    workplace.environment["ORCHESTRATOR_STORE_PATIENCE"] = "1"
    run = workplace.start("run", "words.yaml")
    wait_for(run, lambda: (letters := step(bucket, "letters")) and read_json(letters / "progress.json"))
    children = descendants(run)
    door.shut()
    output, _ = run.communicate(timeout=120)
    door.open()
    assert run.returncode == 1, output
    assert "cannot be used (Could not connect to the endpoint" in output
    assert "Traceback" not in output
    until_gone(children)
    letters = step(bucket, "letters")
    assert letters is not None
    assert not (letters / "done.json").exists()


def test_an_experiment_in_a_bucket_survives_its_driver_and_its_bucket_and_nothing_is_done_twice(
    workplace: Workplace, bucket: StoragePath, door: Door
) -> None:
    run = workplace.start("run", "words.yaml")
    wait_for(run, lambda: checkpointed(bucket))
    kill(run)
    run = workplace.start("run", "words.yaml")
    before = wait_for(run, lambda: decoded(bucket))
    door.shut()
    time.sleep(5)
    door.open()
    wait_for(run, lambda: decoded(bucket) > before)
    working = descendants(run)
    code, output = workplace.run("cancel", "words.yaml")
    assert code == 0, output
    assert "stopped; the same run command continues" in output
    output, _ = run.communicate(timeout=200)
    assert run.returncode == 128 + 15, output
    until_gone(working)
    code, status = workplace.run("status", "words.yaml")
    assert code == 0, status
    assert "cancelled" in status
    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert "sweep: would run (continues what a cancelled run left" in output
    assert "| policy | thinking tokens |" in output

    tiny, sweep = step(bucket, "tiny"), step(bucket, "sweep")
    assert tiny is not None
    assert sweep is not None
    lines = (tiny / "tracked" / "finetune" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 41))
    assert not storage_of(tiny / "checkpoints").files()
    assert not storage_of(tiny / "data").files()
    assert read_json(sweep / "uses.json") == [assert_all_is_there_once(bucket).name]

    code, again = workplace.run("run", "words.yaml")
    assert code == 0, again
    assert "everything is done, nothing to run" in again
    code, logs = workplace.run("logs", "words.yaml", "tiny")
    assert code == 0, logs
    assert logs.count("controller | --- controller on ") == 2
    assert "rank-0 | --- rank-0 on " in logs
    code, output = workplace.run("grade", "words.yaml")
    assert code == 0, output
    assert "0 of 720 verdicts differ" in output
    code, output = workplace.run("look", "words.yaml")
    assert code == 0, output
    assert "640" in output
    code, page = workplace.run("report", "words.yaml", "--item", "nothing")
    assert code == 2, page
    code, page = workplace.run("report", "words.yaml")
    assert code == 0, page
    (report,) = storage_of(bucket / "reports").folders()
    assert b"<html" in (storage_of(report / "report.html").read_bytes() or b"")
    copies = [copy for work in (workplace.folder.parent / "cache").glob("*/work") for copy in work.iterdir()]
    assert not [copy for copy in copies if copy.is_dir()]

    workplace.file.write_text(workplace.file.read_text().replace("budgets: [8, 16]", "budgets: [8]"))
    code, plan = workplace.run("plan", "words.yaml")
    assert code == 0, plan
    code, listed = workplace.run("gc", "words.yaml", "--delete")
    assert code == 0, listed
    assert sorted(folder.name.rpartition("-")[0] for folder in storage_of(bucket).folders() if "-" in folder.name) == [
        "letters",
        "tiny",
    ]
    assert not storage_of(bucket / "traces").folders()
