"""The frontier of finished sweeps: of one, of several together, what is refused, and what is published of it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.frontier import frontier
from jobs.evaluate.publish import publish
from orchestrator.__main__ import main
from orchestrator.job.errors import StepError
from orchestrator.job.record import FinishedStep, FrontierRequest
from tests.evaluate.simulated import CONFIG, LETTERS, context, simulate


def swept(folder: Path, name: str, usd: float | None = 2e-6, **changes: object) -> FinishedStep:
    """A sweep of eight samples that is finished."""
    fields = {"samples": 8, "temperature": 1.0, "votes": ["pass", "majority", "best"], "scores": ["length"]} | changes
    config = EvaluateConfig.model_validate_json(json.dumps(json.loads(CONFIG) | fields))
    step = context(folder, name)
    step.output.mkdir(parents=True)
    shape = {policy: LETTERS[policy] for policy in config.policies}
    samples = step.output / "samples.parquet"
    simulate(shape, items=60, samples=8).to_parquet(samples)
    costs = {"device": "core", "device_seconds": 1.0, "usd": 1.0, "device_seconds_per_token": 1e-3}
    decode = {"seconds": 12.5} | ({} if usd is None else {"costs": costs | {"usd_per_token": usd}})
    (step.output / "decode.json").write_text(json.dumps(decode))
    publish(config, step, samples, decode)
    return FinishedStep(config, step, None, None)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> FinishedStep:
    return swept(tmp_path_factory.mktemp("sweep"), "sweep")


def test_every_combination_is_an_option_over_three_kinds_of_cost(sweep: FinishedStep, tmp_path: Path) -> None:
    text = frontier([sweep], FrontierRequest(budgets=(40.0, 400.0), plot=tmp_path / "frontier.html"))
    assert text.startswith("## tiny on letters")
    for cost in ("tokens", "latency", "dollars"):
        assert f"accuracy against {cost} ({len(LETTERS) * 7} options, 60 items)" in text
    assert "For 40 tokens a question: 1 sample of 1x" in text
    assert "for 400: " in text
    page = (tmp_path / "frontier.html").read_text()
    assert "tiny on letters: the frontier" in page
    assert "<script src" not in page
    assert frontier([sweep], FrontierRequest(plot=tmp_path / "frontier.png")).startswith("## tiny on letters")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")


def test_the_sweep_publishes_every_option_but_no_dollars_which_differ_from_run_to_run(sweep: FinishedStep) -> None:
    over = json.loads((sweep.context.output / "frontier.json").read_text())
    assert [each["cost"] for each in over] == ["tokens", "latency"]
    tokens, latency = ({each["name"]: each for each in record["options"]} for record in over)
    assert len(tokens) == len(LETTERS) * 7
    assert tokens["auto majority@8"]["cost"] == pytest.approx(8 * tokens["auto"]["cost"])
    assert tokens["auto"]["cost"] <= latency["auto majority@8"]["cost"] < tokens["auto majority@8"]["cost"]
    assert {each["name"] for each in over[0]["bounds"]} == {
        f"{each.name} pass@{k}" for each in LETTERS for k in (2, 4, 8)
    }
    assert [each["cost"] for each in over[0]["options"]] == sorted(each["cost"] for each in over[0]["options"])
    table = pd.read_csv(sweep.context.output / "table.csv").set_index(["policy", "score", "k"])
    assert table.loc[("auto", "best@k by length", 4), "accuracy"] == tokens["auto best@4 by length"]["accuracy"]
    assert "On the frontier is what beats" in (sweep.context.output / "table.md").read_text()
    tracked = next(sweep.context.folder.glob("tracked/*/artifacts/frontier.html"))
    assert tracked.read_bytes() == (sweep.context.output / "frontier.html").read_bytes()


@pytest.mark.seconds
def test_sweeps_of_one_model_are_one_pool_of_options_and_what_one_does_not_know_is_left_out(
    sweep: FinishedStep, tmp_path: Path
) -> None:
    other = swept(tmp_path, "more", usd=None, budgets=[4], extensions=None)
    text = frontier([sweep, other], FrontierRequest())
    assert f"({len(LETTERS) * 7 + 7} options, 60 items)" in text
    assert text.count("## ") == 1
    assert "dollars" not in text, "one of them decoded nothing"
    assert "(sweep)" in text
    apart = swept(tmp_path / "apart", "sweep", model=str(tmp_path))
    assert frontier([sweep, apart], FrontierRequest()).count("## ") == 2, "another model is another frontier"


@pytest.mark.seconds
def test_sweeps_of_other_questions_are_refused(sweep: FinishedStep, tmp_path: Path) -> None:
    other = swept(tmp_path, "more")
    path = other.context.output / "samples.parquet"
    frame = pd.read_parquet(path)
    frame.assign(item="x" + frame["item"].astype(str)).to_parquet(path)
    with pytest.raises(StepError, match="frontier: sweep, more have no item of letters in common"):
        frontier([sweep, other], FrontierRequest())


def test_what_cannot_be_shown_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "one.yaml"
    file.write_text("name: one\nstore: runs\nsteps: {letters: {job: letters, train: 4, test: 2}}\n")
    none = CliRunner().invoke(main, ["frontier", str(file)])
    assert (none.exit_code, none.output.strip()) == (2, f"frontier: no sweep of {file} is finished: run it first")
    nowhere = CliRunner().invoke(main, ["frontier", str(file), "--plot", "no/where.html"])
    assert nowhere.exit_code == 2
    assert "is no folder: give a file in one" in nowhere.output
    assert CliRunner().invoke(main, ["frontier", str(file), "--tokens", "0"]).exit_code == 2
