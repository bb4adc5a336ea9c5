"""What a sweep cost, by point: by itself, and its share of the one pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.catalogue import machine
from jobs.evaluate import report
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.figures.costs import Costs, costs, read, rows
from jobs.evaluate.publish import COSTS, publish
from orchestrator.job.context import StepContext
from orchestrator.job.record import FinishedStep
from orchestrator.job.usage import Held, Spending
from tests.evaluate.report.sweep import hostile, request
from tests.evaluate.simulated import CONFIG, context, simulate

HOUR = 3600.0


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> FinishedStep:
    return hostile(tmp_path_factory.mktemp("sweep"))


def points(folder: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((folder / COSTS).read_text())["points"]
    return found


def test_points_by_themselves_need_the_tokens_that_policies_alone_would_decode(step: FinishedStep) -> None:
    decode = json.loads((step.context.output / "decode.json").read_text())
    shared = [point for point in points(step.context.output) if "share" in point]
    assert sum(point["tokens_alone"] for point in shared) == pytest.approx(decode["policies_alone_tokens"])
    for point in shared:
        assert point["core_seconds_alone"] == pytest.approx(0.1 * point["tokens_alone"])
        assert point["cost_usd_alone"] == pytest.approx(0.00125 * point["tokens_alone"])


def test_shares_are_by_tokens_and_add_up_to_the_whole(step: FinishedStep) -> None:
    shared = [point for point in points(step.context.output) if "share" in point]
    assert sum(point["core_seconds"] for point in shared) == pytest.approx(40)
    assert sum(point["cost_usd"] for point in shared) == pytest.approx(0.5)
    per_token = {round(point["cost_usd"] / point["tokens_alone"], 9) for point in shared}
    assert len(per_token) == 1


def test_all_attempts_are_paid_and_the_last_tells_what_a_token_takes() -> None:
    before = Spending(100.0, 8 * HOUR, 50.0, "GPU")
    found = costs("GPU", Held(0, 2 * HOUR, machine("h100").usd(2, HOUR), 1000), before)
    assert found.device_seconds == 10 * HOUR
    assert found.usd == pytest.approx(50 + machine("h100").usd(2, HOUR))
    assert found.device_seconds_per_token == 7.2
    assert read({"costs": found.record()}) == found
    nothing = costs("GPU", Held(0, 0.0, 0.0), None)
    assert nothing == Costs("GPU", 0.0, 0.0, None, None)


def test_a_sweep_that_the_store_had_costs_nothing_and_has_no_price_of_a_token(tmp_path: Path) -> None:
    from jobs.evaluate.publish import results

    simulate().to_parquet(tmp_path / "samples.parquet")
    curves = results(EvaluateConfig.model_validate_json(CONFIG), tmp_path / "samples.parquet").curves
    for row in rows(curves, Costs("GPU", 0.0, 0.0, None, None)):
        assert row["gpu_seconds"] == row["cost_usd"] == 0
        assert "cost_usd_alone" not in row


@pytest.mark.seconds
def test_tracked_points_carry_seconds_and_dollars_and_tables_do_not(tmp_path: Path) -> None:
    simulate().to_parquet(tmp_path / "samples.parquet")
    config = EvaluateConfig.model_validate_json(CONFIG)
    found = Costs("GPU", 3600.0, 6.88, 0.5, 0.001)
    tables: list[bytes] = []
    for decode in ({"seconds": 1.0}, {"seconds": 1.0, "costs": found.record()}):
        own: StepContext = context(tmp_path / str(len(tables)))
        publish(config, own, tmp_path / "samples.parquet", decode)
        tables.append((own.output / "table.csv").read_bytes())
    assert tables[0] == tables[1]
    logged = [
        json.loads(line)["values"]
        for file in own.folder.glob("tracked/*/metrics.jsonl")
        for line in file.read_text().splitlines()
    ]
    of_curves = [values for values in logged if "accuracy" in values]
    for name in ("gpu_seconds", "cost_usd", "gpu_seconds_alone", "cost_usd_alone"):
        assert all(values[name] > 0 for values in of_curves)
    assert (next(own.folder.glob("tracked/*/artifacts")) / COSTS).is_file()


def test_a_report_has_what_each_policy_cost_and_how_the_estimate_was(step: FinishedStep, tmp_path: Path) -> None:
    known = FinishedStep(
        step.config,
        step.context,
        step.seconds,
        step.provenance,
        spent=Spending(50.0, 40.0, 0.5, "core", 400),
        expected=Spending(100.0, 60.0, 0.25, "core", 1200),
    )
    report.write([known], request(tmp_path / "report"))
    for page in ("report.html", "report.md"):
        text = (tmp_path / "report" / page).read_text()
        assert "What each policy cost" in text
        assert "40 core-seconds" in text
        said = text.replace("\\", "")
        assert "estimated 1,200 tokens at 0.05 core-seconds, 60 core-seconds held, $0.25; took 400 tokens" in said
        assert (
            "3.00 times the tokens, 0.50 times the seconds per token, 1.50 times the time held, 0.50 times the cost"
        ) in said
