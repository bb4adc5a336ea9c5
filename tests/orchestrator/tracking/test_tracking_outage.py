"""A real tracking server that is away while an experiment runs: for a while, and for good."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from orchestrator.experiment import Experiment, load
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.step_folders import Store
from orchestrator.tracking import mirror
from orchestrator.tracking.mirror import Mirror
from tests.orchestrator.tracking.tracking_server import free_port, tracking_server

TEXT = """
name: outage
store: {folder}/runs
tracking: {uri}
steps:
  letters: {{job: letters, train: 8, test: 1}}
"""


class Door:
    """A port before a server's: open, it passes everything on; closed, it refuses, and what was passing is cut."""

    def __init__(self, inside: int):
        self._inside = inside
        self.port = free_port()
        self._listening: socket.socket | None = None
        self._passing: list[socket.socket] = []

    def open(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._admit, args=(self._listening,), daemon=True).start()

    def close(self) -> None:
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        for side in self._passing:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
        self._listening, self._passing = None, []

    def _admit(self, listening: socket.socket) -> None:
        with suppress(OSError):  # it was closed
            while True:
                outside, _ = listening.accept()
                inside = socket.create_connection(("127.0.0.1", self._inside))
                self._passing += [outside, inside]
                for one, other in ((outside, inside), (inside, outside)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError), one, other:
            while data := one.recv(1 << 16):
                other.sendall(data)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    with tracking_server(tmp_path_factory.mktemp("server"), port):
        yield port


@pytest.fixture
def door(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(mirror, "EVERY", 0.2)
    door = Door(server)
    door.open()
    yield door
    door.close()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain"
        time.sleep(0.1)


class Running:
    """A step that tracks a run, and the mirror's words about it."""

    def __init__(self, folder: Path, door: Door, name: str):
        file = folder / "outage.yaml"
        file.write_text(TEXT.format(folder=folder, uri=f"http://127.0.0.1:{door.port}"))
        self.experiment: Experiment = load(file, (f"name={name}",))
        store = Store(Path(self.experiment.store))
        [self.planned] = plan(self.experiment, store)
        self.planned.folder.create(self.planned.identity)
        self.tracked = self.planned.context(self.experiment, store).track("curve", {"model": "tiny"})
        (self.tracked.artifacts / "table.md").write_text("| a table |")
        self.said = io.StringIO()

    def mirror(self) -> Mirror:
        return Mirror(self.experiment, Console(file=self.said, width=1000))

    def measure(self, *steps: int) -> None:
        for step in steps:
            self.tracked.metrics({"accuracy": step / 100}, step)

    def end(self) -> PlannedStep:
        self.planned.folder.write_status(state="done")
        return self.planned


def told(server: int, name: str) -> list[tuple[str, list[int]]]:
    """Status and steps of each run that the server has of an experiment."""
    client = MlflowClient(f"http://127.0.0.1:{server}")
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id])
    histories = [client.get_metric_history(run.info.run_id, "accuracy") for run in runs]
    return [(run.info.status, [point.step for point in points]) for run, points in zip(runs, histories, strict=True)]


def test_what_was_measured_while_the_server_was_away_is_there_once_it_is_back(
    door: Door, server: int, tmp_path: Path
) -> None:
    step = Running(tmp_path, door, "a while")
    with step.mirror() as mirrored:
        mirrored.watch(step.planned)
        step.measure(1, 2)
        until(lambda: told(server, "a while") == [("RUNNING", [1, 2])])
        door.close()
        step.measure(3, 4)
        until(lambda: "trying again while the run goes on" in step.said.getvalue())
        door.open()
        step.measure(5)
        until(lambda: told(server, "a while") == [("RUNNING", [1, 2, 3, 4, 5])])
        mirrored.finished(step.planned)
        mirrored.catch_up(step.end())
    assert told(server, "a while") == [("FINISHED", [1, 2, 3, 4, 5])]
    assert step.said.getvalue().count("\n") == 1


def test_a_server_that_stays_away_is_told_everything_by_the_next_run(
    door: Door, server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PATIENCE", 1.0)
    step = Running(tmp_path, door, "for good")
    door.close()
    with step.mirror() as mirrored:
        mirrored.watch(step.planned)
        step.measure(1, 2, 3)
        mirrored.finished(step.planned)
        mirrored.catch_up(step.end())
    assert "the results are in the store, and the next run of the experiment logs them" in step.said.getvalue()
    assert told(server, "for good") == []
    door.open()
    for _ in range(2):
        with step.mirror() as mirrored:
            mirrored.catch_up(step.planned)
    assert told(server, "for good") == [("FINISHED", [1, 2, 3])]
