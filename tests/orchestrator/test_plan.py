"""A plan says what is done and what would run, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.__main__ import main
from orchestrator.experiment import load
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.step_folders import Store

TEXT = """
name: plan
steps:
  letters:
    job: letters
    train: 10
  tiny:
    job: finetune
    model: {random: qwen2, layers: 1, hidden_size: 64}
    data: ${letters}
    resources: {workers: 2}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def planned(store: Store, *overrides: str, text: str = TEXT) -> dict[str, PlannedStep]:
    file = store.root.parent / "experiment.yaml"
    file.write_text(text)
    return {item.step.name: item for item in plan(load(file, overrides), store)}


def finish(item: PlannedStep) -> None:
    item.folder.create(item.identity)
    (item.folder.output / "result").write_text("42")
    item.folder.mark_done()


def verdicts(items: dict[str, PlannedStep]) -> dict[str, tuple[str, str]]:
    return {name: (item.verdict, item.reason) for name, item in items.items()}


def test_a_new_experiment_would_run_in_order(store: Store) -> None:
    assert verdicts(planned(store)) == {
        "letters": ("would run", "not in the store"),
        "tiny": ("would run", "after letters"),
    }


def test_what_is_done_stays_done_and_the_rest_would_run(store: Store) -> None:
    finish(planned(store)["letters"])
    assert verdicts(planned(store)) == {"letters": ("done", ""), "tiny": ("would run", "not in the store")}


@pytest.mark.parametrize(("option", "status"), [([], 0), (["--detailed-exitcode"], 4)])
def test_scripts_can_ask_whether_anything_would_run(
    store: Store, monkeypatch: pytest.MonkeyPatch, option: list[str], status: int
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_STORE", str(store.root))
    finish(planned(store)["letters"])
    ask = ["plan", *option, str(store.root.parent / "experiment.yaml")]
    assert CliRunner().invoke(main, ask).exit_code == status
    finish(planned(store)["tiny"])
    assert CliRunner().invoke(main, ask).exit_code == 0


def test_a_change_is_named_and_reaches_what_depends_on_it(store: Store) -> None:
    before = planned(store)
    for item in before.values():
        finish(item)
    after = planned(store, "steps.letters.train=20")
    assert after["letters"].reason == "changed: train 10 → 20"
    old, new = before["letters"].fingerprint, after["letters"].fingerprint
    assert after["tiny"].reason == f'changed: data.path "${{{old}}}" → "${{{new}}}"'
    assert verdicts(planned(store)) == {"letters": ("done", ""), "tiny": ("done", "")}


@pytest.mark.parametrize(
    "override",
    ["steps.tiny.resources.workers=8", "steps.tiny.resources.retries.user_error=1", "tracking=http://127.0.0.1:1"],
)
def test_where_and_how_fast_changes_nothing(store: Store, override: str) -> None:
    for item in planned(store).values():
        finish(item)
    assert {verdict for verdict, _ in verdicts(planned(store, override)).values()} == {"done"}


def test_renaming_a_step_changes_nothing_of_what_takes_it(store: Store) -> None:
    renamed = planned(store, text=TEXT.replace("letters:", "words:").replace("${letters}", "${words}"))
    assert renamed["tiny"].fingerprint == planned(store)["tiny"].fingerprint


def test_a_damaged_output_would_run_again(store: Store) -> None:
    item = planned(store)["letters"]
    finish(item)
    (item.folder.output / "result").write_text("43")
    verdict, reason = verdicts(planned(store))["letters"]
    assert verdict == "would run"
    assert reason.startswith("damaged: ")
    assert reason.endswith("does not match its checksum")


def test_an_interrupted_step_continues(store: Store) -> None:
    item = planned(store)["letters"]
    item.folder.create(item.identity)
    item.folder.write_status(state="cancelled")
    assert verdicts(planned(store))["letters"] == ("would run", "continues what a cancelled run left")
