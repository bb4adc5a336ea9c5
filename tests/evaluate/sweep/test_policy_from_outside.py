"""A kind of policy that an installed package adds: planned, decoded, drawn, reported and tracked as ours are."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from tests.evaluate import tiny
from tests.installed import install
from tests.orchestrator.workplace import Workplace

pytestmark = pytest.mark.processes

SOURCE = """
    from collections.abc import Iterator, Sequence
    from dataclasses import dataclass

    from pydantic import Field

    from jobs.evaluate.sweep.kinds import PolicyKind
    from jobs.evaluate.sweep.policies.budgets import Budget
    from jobs.evaluate.sweep.policy import Policy, Route
    from orchestrator.job.strict_model import StrictModel


    class Relays(StrictModel):
        strings: tuple[str, ...] = Field(min_length=2)
        lengths: tuple[int, ...]


    @dataclass(frozen=True)
    class Relay(Policy):
        strings: tuple[str, ...]

        @property
        def name(self) -> str:
            return "relay " + ", ".join(self.strings)

        @property
        def method(self) -> str:
            return "relay"

        @property
        def setting(self) -> str:
            return str(len(self.strings))

        @property
        def route(self) -> Route:
            return Route(strings=self.strings)

        @property
        def origin(self) -> Policy:
            return Budget()


    def policies(given, sweep, before):
        yield from (Relay(given.strings[:length]) for length in given.lengths)


    KIND = PolicyKind(
        value=Relays, policies=policies, description="one string after another", order=25,
        count=lambda given, before, sweep: len(given.lengths), curves=("relay",),
    )
"""
EXPERIMENT = """
name: relays
steps:
  sweep:
    job: evaluate
    model: model
    tasks: [{name: sums, path: sums.jsonl}]
    budgets: [4, auto]
    extensions: {strings: [Wait], counts: [1]}
    relay: {strings: [Wait, Hmm], lengths: [1, 2]}
    max_answer_tokens: 8
"""
RELAYS = ["relay Wait", "relay Wait, Hmm"]


def test_a_kind_of_policy_from_another_package_goes_all_the_way(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    points = {"scaling_orchestrator.policies": {"relay": "their_relay:KIND"}}
    theirs = install(tmp_path / "site", "their_relay", SOURCE, points)
    workplace.environment["PYTHONPATH"] += f":{theirs}"
    tiny.save(tmp_path / "model")
    lines = [{"id": f"q{number}", "question": f"{number}+1?", "answer": str(number + 1)} for number in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workplace.file.write_text(EXPERIMENT)

    code, output = workplace.run("plan", "words.yaml")
    assert code == 0, output
    assert "5 policies x 4 items" in output
    assert "relay Wait, Hmm" in output

    code, output = workplace.run("plan", "words.yaml", "--set", "steps.sweep.relay.length=[1]")
    assert code == 2
    assert "steps.sweep.relay.length: is not a key here; did you mean 'lengths'?" in output

    code, output = workplace.run("run", "words.yaml")
    assert code == 0, output
    assert RELAYS[1] in output
    folder = workplace.step("sweep") / "output"
    samples = pd.read_parquet(folder / "samples.parquet")
    rows = {name: frame.set_index("item") for name, frame in samples.groupby("policy")}
    columns = ["thinking_tokens", "injected_tokens", "answer", "verdict"]
    pd.testing.assert_frame_equal(rows[RELAYS[0]][columns], rows['1x"Wait"'][columns])
    assert (rows[RELAYS[1]]["extensions_used"] == 2).any()
    curves = {each["curve"]: each["points"] for each in json.loads((folder / "curves.json").read_text())}
    assert [point["policy"] for point in curves["relay"]] == ["auto", *RELAYS]

    code, output = workplace.run("report", "words.yaml")
    assert code == 0, output
    assert any(RELAYS[1] in file.read_text() for file in tmp_path.rglob("*.html"))
    with sqlite3.connect(tmp_path / "mlflow.db") as tracked:
        names = [name for (name,) in tracked.execute("select name from runs")]
    assert any(name.endswith("relay") for name in names), names
