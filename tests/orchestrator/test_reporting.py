"""``report``: pages on what the store has, where they are, and what MLflow gets; nothing is run."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from mlflow import MlflowClient

from orchestrator.__main__ import main
from orchestrator.experiment import load
from orchestrator.garbage import unreachable
from orchestrator.plan import plan
from orchestrator.reporting import command, write_reports
from orchestrator.store.step_folders import Store
from tests.evaluate.report.sweep import ANSWERS, THOUGHTS, fields
from tests.evaluate.spoken import finish


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """An experiment with a finished sweep and one that never ran."""
    folder = tmp_path_factory.mktemp("experiment")
    sweep = {"job": "evaluate", **fields(folder)}
    content = {
        "name": "sums",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {"sweep": sweep, "later": {**sweep, "seed": 1}},
    }
    path = folder / "sums.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.copy(empty_database, folder / "mlflow.db")
    MlflowClient(content["tracking"]).create_experiment("sums", artifact_location=(folder / "artifacts").as_uri())
    experiment, store = load(path), Store(folder / "runs")
    step = plan(experiment, store)[0]
    step.folder.create(step.identity)
    finish(step.context(experiment, store), fields(folder), THOUGHTS, ANSWERS)
    step.folder.write_status(state="done", started=10.0, finished=71.0)
    step.folder.mark_done()
    return path


def report(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", str(file), *arguments], catch_exceptions=False)


@pytest.mark.seconds
def test_the_page_and_its_markdown_are_in_the_store_and_mlflow_has_it_too(file: Path) -> None:
    result = report(file)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("not done, so not in it: ")
    page = Path(next(line for line in result.output.splitlines() if line.startswith("report: "))[len("report: ") :])
    assert page.parent.parent == file.parent / "runs" / "reports"
    assert {each.name for each in page.parent.iterdir()} == {"report.html", "report.md", "steps.json"}
    assert "61 s" in page.read_text()
    assert plan(load(file), Store(file.parent / "runs"))[0].verdict == "done", "the step's own output is untouched"
    client = MlflowClient(load(file).tracking)
    runs = client.search_runs([client.get_experiment_by_name("sums").experiment_id])
    having = [run for run in runs if any(each.path == "report.html" for each in client.list_artifacts(run.info.run_id))]
    assert [run.data.params["curve"] for run in having] == ["budget"]


def test_an_unknown_item_is_bad_input(file: Path) -> None:
    result = report(file, "--item", "three")
    assert result.exit_code == 2
    assert "--item: no item 'three'" in result.output
    assert "Traceback" not in result.output


def test_items_and_room_for_traces_can_be_asked_for(file: Path) -> None:
    small = report(file, "--megabytes", "0.0001")
    page = Path(small.output.rpartition("report: ")[2].splitlines()[0])
    assert "All 6 samples are here with their verdicts, and 0 of them" in page.read_text()
    report(file, "--item", "it's")
    assert "All 6 samples are here, each" in page.read_text()


def test_a_run_leaves_a_page_that_is_there_as_it_is(file: Path) -> None:
    experiment, store = load(file), Store(file.parent / "runs")
    (page,) = write_reports(experiment, store, plan(experiment, store), "report")
    page.write_text("kept")
    assert write_reports(experiment, store, plan(experiment, store), "report", which="missing") == [page]
    assert page.read_text() == "kept"


@pytest.mark.seconds
def test_other_values_have_a_page_of_their_own(file: Path) -> None:
    store = Store(file.parent / "runs")
    experiment = load(file)
    (page,) = write_reports(experiment, store, plan(experiment, store), "report")
    changed = load(file, ["steps.sweep.seed=5"])
    assert write_reports(changed, store, plan(changed, store), "report") == [], "what never ran has none"
    step = plan(changed, store)[0]
    step.folder.create(step.identity)
    finish(step.context(changed, store), {**fields(file.parent), "seed": 5}, THOUGHTS, ANSWERS)
    step.folder.mark_done()
    (other,) = write_reports(changed, store, plan(changed, store), "report")
    assert other.parent != page.parent
    garbage = {each.path for each in unreachable(store, plan(experiment, store))}
    traces = set(store.traces.iterdir())
    assert garbage - traces == {step.folder.path, other.parent}, "a report goes with its steps"


def test_the_command_is_the_shells_and_tells_no_password() -> None:
    overrides = ("tracking=http://me:secret@host/", "steps.sweep.budgets=[4, 8]")
    assert command(Path("my file.yaml"), overrides) == (
        "python -m orchestrator report 'my file.yaml' --set tracking=http://host/ --set 'steps.sweep.budgets=[4, 8]'"
    )


def test_the_command_is_the_one_that_was_called() -> None:
    with click.Context(main, info_name="scaling") as called, click.Context(click.Command("report"), called):
        assert command(Path("mine.yaml"), ()) == "scaling report mine.yaml"
