"""An engine, a type of answers, a statistic and a kind of policy of installed packages: planned, run and reported.

What need not run to be seen is in ``test_added_from_outside.py``.
"""

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

THEIRS = '''
    from jobs.evaluate.engines.protocol import Chunk
    from jobs.evaluate.engines.registry import EngineKind, Program
    from jobs.evaluate.grading.answer_type import AnswerType
    from jobs.evaluate.grading.extraction import Extracted
    from jobs.evaluate.stats.intervals import Interval
    from jobs.evaluate.stats.statistic import Statistic, Value

    __version__ = "2.5"


    class Echo:
        """Thinks and answers the same whatever it is asked."""

        cache_tokens = None

        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        async def stream(self, request):
            said = self.tokenizer.encode("I think" if len(request.stop) > 1 else "seven", add_special_tokens=False)
            left = said[request.position :][: request.max_tokens]
            yield Chunk(left, "length" if len(left) == request.max_tokens else "stop")

        async def close(self):
            pass


    async def start(spec):
        from transformers import AutoTokenizer

        return Echo(AutoTokenizer.from_pretrained(spec.model))


    def extract(text):
        said = text.answer.strip().removeprefix("Final Answer:").strip()
        return Extracted(said or None, "whole" if said else "none")


    def same(gold, said):
        if gold == "CRASH":
            raise LookupError("their bug")
        return gold == said.upper()


    def problem(gold):
        return None if gold.isupper() else "is not in capitals"


    def twice(outcomes, policies, seed):
        means = [float(mean) for mean in outcomes.mean("thinking_tokens")]
        return [Value(2 * mean, Interval(mean, 3 * mean)) for mean in means]


    ECHO = EngineKind(start=start, library=__name__, on_cpus=Program(start=1, step=1e-3, sequence=1e-4))
    SHOUTED = AnswerType(extract=extract, same=same, problem=problem)
    TWICE = Statistic("twice the thinking", of=twice)
    NONE = "no engine"
'''
POINTS = {
    "scaling_orchestrator.engines": {"echo": "theirs:ECHO", "broken": "theirs:NONE"},
    "scaling_orchestrator.graders": {"shouted": "theirs:SHOUTED"},
    "scaling_orchestrator.statistics": {"twice": "theirs:TWICE"},
}
RELAY = """
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
SWEEP = """
name: words
steps:
  sweep:
    job: evaluate
    model: ./model
    tasks: [{name: numbers, path: numbers.jsonl, type: shouted}]
    engine: echo
    budgets: [4, auto]
  relays:
    job: evaluate
    model: ./model
    tasks: [{name: sums, path: sums.jsonl}]
    budgets: [4, auto]
    extensions: {strings: [Wait], counts: [1]}
    relay: {strings: [Wait, Hmm], lengths: [1, 2]}
    max_answer_tokens: 8
"""
RELAYS = ["relay Wait", "relay Wait, Hmm"]


def test_an_engine_an_answer_type_a_statistic_and_a_policy_of_another_package_are_as_ours(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    tiny.save(tmp_path / "model")
    site = install(tmp_path / "site", "theirs", THEIRS, POINTS)
    install(site, "their_relay", RELAY, {"scaling_orchestrator.policies": {"relay": "their_relay:KIND"}})
    place.environment["PYTHONPATH"] += f":{site}"
    sums = [{"id": f"q{number}", "question": f"{number}+1?", "answer": str(number + 1)} for number in range(4)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    place.file.write_text(SWEEP)

    def questions(*answers: str) -> None:
        rows = [{"id": str(at), "question": "?", "answer": answer} for at, answer in enumerate(answers)]
        (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    questions("SEVEN", "Seven", "EIGHT")
    mistakes = ("--set", "steps.sweep.engine=eco", "--set", "steps.relays.relay.length=[1]")
    code, said = place.run("plan", "words.yaml", *mistakes)
    assert code == 2
    assert "steps.relays.relay.length: is not a key here; did you mean 'lengths'?" in said
    assert "must be 'auto', 'transformers', 'vllm', 'openai', 'echo' or 'broken'; did you mean echo?" in said
    assert "numbers.jsonl:2: answer 'Seven' is not in capitals" in place.run("plan", "words.yaml")[1]
    questions("SEVEN", "EIGHT", "CRASH")
    code, said = place.run("plan", "words.yaml", "--set", "steps.sweep.engine=broken")
    assert code == 2
    assert "Traceback" not in said
    assert "broken of the package theirs is a str: theirs:NONE must be a EngineKind" in said
    code, said = place.run("plan", "words.yaml", "--set", "steps.sweep.resources={gpus: 1}")
    assert "resources.gpus: 1 would idle: engine echo runs on CPUs alone" in said

    code, said = place.run("run", "words.yaml")
    assert code == 0, said
    assert "5 policies x 4 items" in said
    assert RELAYS[1] in said
    assert_relays_are_as_others(place.step("relays") / "output")
    output = place.step("sweep") / "output"
    (curve,) = json.loads((output / "curves.json").read_text())
    four, auto = curve["points"]
    assert (four["accuracy"], four["error_share"]) == (0.5, pytest.approx(1 / 3)), "their bug is an error, not wrong"
    assert [auto[name] for name in ("thinking_tokens", "twice", "twice_low", "twice_high")] == [7, 14, 7, 21]
    assert "| 14.00 (7.00 – 21.00) |" in (output / "table.md").read_text()
    (kind,) = json.loads((output / "decode.json").read_text())["decoded_by"]
    assert (kind["engine"], kind["version"]) == ("echo", "2.5")
    metrics = "".join(file.read_text() for file in output.parent.glob("tracked/*/metrics*"))
    assert "twice_high" in metrics

    code, said = place.run("report", "words.yaml")
    assert code == 0, said
    for name in ("report.md", "report.html"):
        (page,) = (tmp_path / "runs" / "reports").rglob(name)
        assert "twice the thinking" in page.read_text()
        assert "14.00 (7.00 – 21.00)" in page.read_text()
        assert RELAYS[1] in page.read_text()
    with sqlite3.connect(tmp_path / "mlflow.db") as tracked:
        names = [name for (name,) in tracked.execute("select name from runs")]
    assert any(name.endswith("relay") for name in names), names


def assert_relays_are_as_others(folder: Path) -> None:
    samples = pd.read_parquet(folder / "samples.parquet")
    rows = {name: frame.set_index("item") for name, frame in samples.groupby("policy")}
    columns = ["thinking_tokens", "injected_tokens", "answer", "verdict"]
    pd.testing.assert_frame_equal(rows[RELAYS[0]][columns], rows['1x"Wait"'][columns])
    assert (rows[RELAYS[1]]["extensions_used"] == 2).any()
    curves = {each["curve"]: each["points"] for each in json.loads((folder / "curves.json").read_text())}
    assert [point["policy"] for point in curves["relay"]] == ["auto", *RELAYS]
