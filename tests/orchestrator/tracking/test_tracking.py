"""The mirror to MLflow: says what the store says, however often it is called and whatever happened in between."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from rich.console import Console

from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.store.records import DamagedRecord
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.tracker import Tracker, TrackingError
from tests.evaluate.simulated import context
from tests.going_away import goes_away_after

pytestmark = pytest.mark.processes


@pytest.fixture
def tracker(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Tracker(f"sqlite:///{tmp_path}/mlflow.db", "scaling-sweep")


@pytest.fixture
def step(tmp_path: Path) -> StepContext:
    """A step with two curves and a training run."""
    step = context(tmp_path / "runs")
    for name, accuracy in (("Wait", 0.9), ("Hmm", 0.4)):
        run = step.track(
            name, {"model": "tiny", "temperature": 0.0}, {"sweep": "scaling-sweep/sweep", "color": "#000000"}
        )
        run.metrics({"accuracy": 0.47, "thinking_tokens": 13.0}, step=13)
        run.metrics({"accuracy": accuracy, "thinking_tokens": 34.2}, step=34)
        (run.artifacts / "table.md").write_text("| a table |")
        (run.artifacts / "more").mkdir()
        (run.artifacts / "more" / "samples.jsonl").write_text("{}")
    step.track("finetune", {"learning_rate": 1e-3}, group="training").metrics({"loss": 2.5}, step=0)
    return step


def mirror(folder: Path, database: Path, said: io.StringIO) -> Mirror:
    file = folder / "words.yaml"
    text = f"name: words\ntracking: sqlite:///{database}\nsteps:\n  words: {{job: letters, train: 8, test: 1}}\n"
    file.write_text(text)
    return Mirror(load(file), Console(file=said))


def test_a_database_that_is_opened_beforehand_is_whole_however_soon_the_run_ends(tmp_path: Path) -> None:
    said, database = io.StringIO(), tmp_path / "mlflow.db"
    with mirror(tmp_path, database, said) as ready:
        ready.get_ready()
    with contextlib.closing(sqlite3.connect(database)) as opened:
        assert opened.execute("select count(*) from alembic_version").fetchall() == [(1,)]
        assert opened.execute("select count(*) from runs").fetchall() == [(0,)]


def test_a_database_that_cannot_be_opened_beforehand_is_complained_of_when_it_matters(tmp_path: Path) -> None:
    said = io.StringIO()
    with mirror(tmp_path, tmp_path / "words.yaml" / "mlflow.db", said) as ready:
        ready.get_ready()
    assert said.getvalue() == ""


def sync(tracker: Tracker, step: StepContext, state: str = "FINISHED") -> None:
    tracker.sync(step.folder, step.name, step.fingerprint, state)


def runs(tracker: Tracker, experiment: str = "scaling-sweep", view: int = ViewType.ACTIVE_ONLY) -> dict[str, Run]:
    client = MlflowClient(tracker.uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    listed = client.search_runs([found.experiment_id], run_view_type=view)
    named = {run.info.run_name: run for run in listed}
    assert len(named) == len(listed), "a run is there twice"
    return named


def history(tracker: Tracker, run: Run, metric: str) -> list[tuple[int, float]]:
    logged = MlflowClient(tracker.uri).get_metric_history(run.info.run_id, metric)
    return [(point.step, point.value) for point in logged]


def everything(tracker: Tracker) -> object:
    """All that MLflow knows of the curves, but for the times at which it was told."""
    return {
        name: (
            run.info.run_id,
            run.info.status,
            run.info.end_time,
            run.data.params,
            run.data.tags,
            {metric: history(tracker, run, metric) for metric in run.data.metrics},
        )
        for name, run in runs(tracker).items()
    }


def test_a_step_becomes_flat_runs_with_its_params_tags_metrics_and_artifacts(
    tracker: Tracker, step: StepContext
) -> None:
    sync(tracker, step)
    found = runs(tracker)
    assert set(found) == {"Wait", "Hmm"}
    wait = found["Wait"]
    assert wait.info.status == "FINISHED"
    assert wait.data.params == {"model": "tiny", "temperature": "0.0"}
    expected = {
        "sweep": "scaling-sweep/sweep",
        "step": "sweep",
        "fingerprint": step.fingerprint,
        "mlflow.runColor": "#000000",
    }
    assert expected.items() <= wait.data.tags.items()
    assert "mlflow.parentRunId" not in wait.data.tags
    assert history(tracker, wait, "accuracy") == [(13, 0.47), (34, 0.9)]
    client = MlflowClient(tracker.uri)
    assert {file.path for file in client.list_artifacts(wait.info.run_id)} == {"table.md", "more"}
    assert Path(client.download_artifacts(wait.info.run_id, "table.md")).read_text() == "| a table |"


def test_training_is_kept_apart_from_curves(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    (training,) = runs(tracker, "scaling-sweep · training").values()
    assert training.info.run_name == "finetune"
    assert history(tracker, training, "loss") == [(0, 2.5)]


def test_syncing_again_changes_nothing_whoever_does_it(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    before = everything(tracker)
    sync(tracker, step)
    sync(Tracker(tracker.uri, tracker.experiment), step)
    assert everything(tracker) == before


def test_a_running_step_grows_and_ends(tracker: Tracker, step: StepContext) -> None:
    run = step.track("loss", {}, group="training")
    sync(tracker, step, "RUNNING")
    first = runs(tracker, "scaling-sweep · training")["loss"]
    assert first.info.status == "RUNNING"
    assert not MlflowClient(tracker.uri).list_artifacts(runs(tracker)["Wait"].info.run_id), "they are being written"
    for number in range(2500):
        run.metrics({"loss": 1 / (number + 1)}, step=number)
    sync(tracker, step, "RUNNING")
    run.metrics({"loss": 0.0}, step=2500)
    sync(tracker, step, "KILLED")
    last = runs(tracker, "scaling-sweep · training")["loss"]
    assert last.info.run_id == first.info.run_id
    assert last.info.status == "KILLED"
    assert last.info.end_time is not None
    assert history(tracker, last, "loss") == [*((number, 1 / (number + 1)) for number in range(2500)), (2500, 0.0)]


def test_a_step_that_failed_and_was_resumed_goes_on_in_its_run(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step, "FAILED")
    failed = runs(tracker)["Wait"]
    sync(tracker, step, "RUNNING")
    assert runs(tracker)["Wait"].info.status == "RUNNING"
    sync(tracker, step)
    assert runs(tracker)["Wait"].info.run_id == failed.info.run_id
    assert runs(tracker)["Wait"].info.status == "FINISHED"


def test_a_line_that_is_being_written_waits(tracker: Tracker, step: StepContext) -> None:
    metrics = step.folder / "tracked" / "Wait" / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole[:-5])
    sync(tracker, step, "RUNNING")
    assert history(tracker, runs(tracker)["Wait"], "accuracy") == [(13, 0.47)]
    metrics.write_text(whole)
    sync(tracker, step)
    assert history(tracker, runs(tracker)["Wait"], "accuracy") == [(13, 0.47), (34, 0.9)]


def test_a_torn_line_of_a_killed_attempt_is_dropped_by_the_next(step: StepContext) -> None:
    metrics = step.folder / "tracked" / "Wait" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"step": 99, "ti')
    step.track("Wait", {}).metrics({"accuracy": 1.0}, step=99)
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [13, 34, 99]


def test_measuring_the_same_again_logs_nothing_twice(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    before = runs(tracker)["Wait"].info.run_id
    run = step.track("Wait", {"model": "tiny", "temperature": 0.0}, {"sweep": "scaling-sweep/sweep"})
    run.rewind(-1)
    run.metrics({"accuracy": 0.47, "thinking_tokens": 13.0}, step=13)
    run.metrics({"accuracy": 0.9, "thinking_tokens": 34.2}, step=34)
    sync(tracker, step)
    assert runs(tracker)["Wait"].info.run_id == before
    assert history(tracker, runs(tracker)["Wait"], "accuracy") == [(13, 0.47), (34, 0.9)]


def test_a_run_whose_history_changed_is_logged_afresh(tracker: Tracker, step: StepContext) -> None:
    run = step.track("loss", {}, group="training")
    for number, loss in enumerate([3.0, 2.0, 1.0]):
        run.metrics({"loss": loss}, step=number)
    sync(tracker, step, "RUNNING")
    run.rewind(1)
    run.metrics({"loss": 1.5}, step=2)
    sync(tracker, step, "RUNNING")
    assert history(tracker, runs(tracker, "scaling-sweep · training")["loss"], "loss") == [(0, 3.0), (1, 2.0), (2, 1.5)]


def test_new_params_are_added_and_changed_ones_replace_the_run(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    first = runs(tracker)["Wait"].info.run_id
    step.track("Wait", {"model": "tiny", "temperature": 0.0, "new": "x" * 7000}, {"sweep": "other"})
    sync(tracker, step)
    grown = runs(tracker)["Wait"]
    assert grown.info.run_id == first
    assert grown.data.params["new"] == "x" * 5999 + "…"
    assert grown.data.tags["sweep"] == "other"
    step.track("Wait", {"model": "small"})
    sync(tracker, step)
    replaced = runs(tracker)["Wait"]
    assert replaced.info.run_id != first
    assert replaced.data.params == {"model": "small"}
    assert history(tracker, replaced, "accuracy") == [(13, 0.47), (34, 0.9)]
    assert first in {run.info.run_id for run in deleted(tracker)}


def deleted(tracker: Tracker) -> list[Run]:
    client = MlflowClient(tracker.uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, run_view_type=ViewType.DELETED_ONLY))


def test_what_was_deleted_in_mlflow_comes_back(tracker: Tracker, step: StepContext) -> None:
    sync(tracker, step)
    client = MlflowClient(tracker.uri)
    gone = runs(tracker)["Wait"]
    client.delete_run(gone.info.run_id)
    sync(tracker, step)
    again = runs(tracker)["Wait"]
    assert again.info.run_id != gone.info.run_id
    assert history(tracker, again, "accuracy") == [(13, 0.47), (34, 0.9)]
    client.delete_experiment(again.info.experiment_id)
    sync(tracker, step)
    assert set(runs(tracker)) == {"Wait", "Hmm"}


def test_another_database_gets_everything(
    tracker: Tracker, step: StepContext, tmp_path: Path, empty_database: Path
) -> None:
    sync(tracker, step)
    shutil.copy(empty_database, tmp_path / "other.db")
    other = Tracker(f"sqlite:///{tmp_path}/other.db", tracker.experiment)
    sync(other, step)
    assert {name: history(other, run, "accuracy") for name, run in runs(other).items()} == {
        name: history(tracker, run, "accuracy") for name, run in runs(tracker).items()
    }


def test_artifacts_are_uploaded_once_and_again_when_they_change(
    tracker: Tracker, step: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[str] = []
    log_artifacts = MlflowClient.log_artifacts

    def counted(self: MlflowClient, run_id: str, local_dir: str) -> None:
        uploads.append(Path(local_dir).parent.name)
        log_artifacts(self, run_id, local_dir)

    monkeypatch.setattr(MlflowClient, "log_artifacts", counted)
    sync(tracker, step)
    sync(tracker, step)
    assert sorted(uploads) == ["Hmm", "Wait"]
    (step.folder / "tracked" / "Wait" / "artifacts" / "table.md").write_text("another")
    sync(tracker, step)
    assert sorted(uploads) == ["Hmm", "Wait", "Wait"]


def test_any_name_can_be_a_run(tracker: Tracker, step: StepContext) -> None:
    names = ["../up", "a/b", "a_b", 'say "hi"', "it's", "", "·" * 300]
    for name in names:
        step.track(name, {}).metrics({"accuracy": 0.5}, step=1)
    folders = [path.parent for path in step.folder.glob("tracked/*/run.json")]
    assert len(folders) == len(names) + 3
    sync(tracker, step)
    sync(tracker, step)
    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("scaling-sweep")
    assert len(client.search_runs([experiment.experiment_id])) == len(names) + 2


def test_a_step_that_tracks_nothing_needs_no_server(tmp_path: Path) -> None:
    Tracker("http://127.0.0.1:1", "scaling-sweep").sync(tmp_path, "letters", "00", "FINISHED")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_is_away_is_one_error_without_secrets_and_nothing_is_lost(
    tracker: Tracker, step: StepContext, port: int
) -> None:
    away = Tracker(f"http://user:secret@127.0.0.1:{port}", tracker.experiment)
    with pytest.raises(TrackingError, match=f"MLflow at http://127.0.0.1:{port}: ") as raised:
        sync(away, step)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
    sync(tracker, step)
    assert set(runs(tracker)) == {"Wait", "Hmm"}


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Answers every request with status 500."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_server_that_fails_is_the_same_error(step: StepContext, broken_server: str) -> None:
    with pytest.raises(TrackingError):
        sync(Tracker(broken_server, "scaling-sweep"), step)


@pytest.mark.parametrize("failing", ["create_run", "log_batch", "log_artifacts", "set_terminated"])
def test_a_server_that_goes_away_at_any_moment_is_caught_up(tracker: Tracker, step: StepContext, failing: str) -> None:
    with goes_away_after(failing):
        sync(tracker, step)
    sync(tracker, step)
    assert {name: history(tracker, run, "accuracy") for name, run in runs(tracker).items()} == {
        "Wait": [(13, 0.47), (34, 0.9)],
        "Hmm": [(13, 0.47), (34, 0.4)],
    }
    assert {run.info.status for run in runs(tracker).values()} == {"FINISHED"}


def test_mlflow_does_not_talk_into_the_log(
    tracker: Tracker, step: StepContext, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    new = Tracker(f"sqlite:///{tmp_path}/new.db", "scaling-sweep")
    sync(new, step)
    captured = capfd.readouterr()
    assert "INFO" not in captured.out + captured.err


DAMAGE = (b"\xff\xfe{", b"[" * 100_000, b"null", b"{}", b'{"step": 1}', b'{"step": "a", "time": 0, "values": {}}')


@pytest.mark.parametrize("content", DAMAGE)
def test_lines_that_are_damaged_are_left_out_and_said_and_what_goes_on_drops_them(
    tracker: Tracker, step: StepContext, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = step.folder / "tracked" / "Wait" / "metrics.jsonl"
    metrics.write_bytes(content + b"\n" + metrics.read_bytes() + b'{"step": 50, "ti')
    sync(tracker, step, "RUNNING")
    assert runs(tracker)["Wait"].data.metrics["accuracy"] == 0.9
    assert f"{metrics} is damaged: line 1 " in capsys.readouterr().err
    step.track("Wait", {"model": "tiny", "temperature": 0.0}, {})
    assert len(metrics.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", DAMAGE)
def test_a_run_that_is_damaged_is_one_line(tracker: Tracker, step: StepContext, content: bytes) -> None:
    (step.folder / "tracked" / "Wait" / "run.json").write_bytes(content)
    with pytest.raises(DamagedRecord, match=r"Wait/run.json is"):
        sync(tracker, step)
