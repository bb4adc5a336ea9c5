"""The experiments that collect, distil and curate: each is read and planned as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.collect.config import CollectConfig
from jobs.curate.config import CurateConfig
from jobs.distil.config import DistilConfig
from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT

DATA = re.compile("job: (collect|distil|curate)")
FILES = [file for file in sorted((ROOT / "experiments").rglob("*.yaml")) if DATA.search(file.read_text())]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_is_read_and_planned(file: Path, tmp_path: Path) -> None:
    experiment = load(file)
    planned = plan(experiment, Store(tmp_path))
    assert {step.verdict for step in planned} == {"would run"}
    assert experiment.notes == ()


def test_there_is_one_of_each() -> None:
    assert {file.stem for file in FILES} == {"pipeline", "curate", "distil", "data_ablations"}
    kinds = {type(step.config) for file in FILES for step in load(file).steps.values()}
    assert {CollectConfig, DistilConfig, CurateConfig} <= kinds


def test_the_ablations_draw_three_sets_of_each_way_that_draws_and_learn_from_each() -> None:
    steps = load(ROOT / "experiments" / "s1" / "data_ablations.yaml").steps
    learned = {name for name, step in steps.items() if step.kind == "finetune"}
    swept = {name for name, step in steps.items() if step.kind == "evaluate"}
    assert len(learned) == 3 * 3 + 2
    assert {name.replace("learns", "sweep") for name in learned} == swept


def test_every_source_of_the_papers_pool_is_named_taken_or_not() -> None:
    text = (ROOT / "experiments" / "s1" / "curate.yaml").read_text()
    config = load(ROOT / "experiments" / "s1" / "curate.yaml").steps["questions"].config
    assert isinstance(config, CollectConfig)
    taken = {source.name.removesuffix("_physics") for source in config.sources}
    left = set(re.findall(r"# - \{name: (\w+)", text))
    assert not taken & left
    assert len(taken | left) == 16
    assert "revision" not in "".join(line for line in text.splitlines() if line.strip().startswith("# -"))
