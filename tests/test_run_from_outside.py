"""An engine, a type of answers and a statistic of an installed package: one experiment is planned, run and reported.

What need not run to be seen is in ``test_added_from_outside.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluate import tiny
from tests.installed import install
from tests.orchestrator.workplace import Workplace

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
SWEEP = """
name: words
steps:
  sweep:
    job: evaluate
    model: ./model
    tasks: [{name: numbers, path: numbers.jsonl, type: shouted}]
    engine: echo
    budgets: [4, auto]
"""


def test_an_engine_an_answer_type_and_a_statistic_of_another_package_are_as_ours(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    tiny.save(tmp_path / "model")
    site = install(tmp_path / "site", "theirs", THEIRS, POINTS)
    place.environment["PYTHONPATH"] += f":{site}"
    place.file.write_text(SWEEP)

    def questions(*answers: str) -> None:
        rows = [{"id": str(at), "question": "?", "answer": answer} for at, answer in enumerate(answers)]
        (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    questions("SEVEN", "Seven", "EIGHT")
    code, said = place.run("plan", "words.yaml", "--set", "steps.sweep.engine=eco")
    assert code == 2
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
