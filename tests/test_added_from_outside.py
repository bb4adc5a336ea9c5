"""What an installed package adds, by its entry points, is planned as ours is: benchmarks, template styles, scorers.

Kinds of step have a test of their own (``orchestrator/test_job_kinds.py``).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.installed import install

pytestmark = pytest.mark.processes

BENCHMARK = """
    from jobs.evaluate.tasks.benchmarks import Benchmark, Columns

    RIDDLES = Benchmark(
        dataset="someone/riddles",
        revision="0" * 40,
        split="test",
        type="integer",
        items=7,
        columns=Columns(question=("riddle",)),
    )
"""
TEMPLATE = """
    from jobs.template import ThinkingTemplate

    ASIDE = ThinkingTemplate("aside", open="<aside>", close="</aside>", plain=True)
"""
EXPERIMENT = """
name: riddles
steps:
  words: {{job: letters, train: 10, test: 3}}
  tiny:
    job: finetune
    model: {{random: qwen2, layers: 1, hidden_size: 64}}
    data: ${{words}}
    template: {template}
  sweep:
    job: evaluate
    model: ${{tiny}}
    tasks: [{task}]
    template: {template}
    temperature: 1.0
    search: {{scorer: {{kind: {scorer}}}}}
    rebase: {{widths: [4]}}
"""
SCORER = """
    from jobs.evaluate.scorers.registry import ScorerKind
    from orchestrator.job.extensions import lazy

    SHORTEST = ScorerKind(start=lazy("nowhere:start"), description="the shorter, the better")
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(
        tmp_path / "site", "riddles", BENCHMARK, {"scaling_orchestrator.benchmarks": {"riddles": "riddles:RIDDLES"}}
    )
    install(tmp_path / "site", "shorts", SCORER, {"scaling_orchestrator.scorers": {"shortest": "shorts:SHORTEST"}})
    return install(tmp_path / "site", "asides", TEMPLATE, {"scaling_orchestrator.templates": {"aside": "asides:ASIDE"}})


def plan(folder: Path, site: Path, **names: str) -> tuple[int, str]:
    file = folder / "experiment.yaml"
    file.write_text(EXPERIMENT.format(**names))
    command = [sys.executable, "-m", "orchestrator", "plan", str(file)]
    environment = {"PYTHONPATH": f"{ROOT}:{site}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout + result.stderr


def test_a_benchmark_a_template_style_and_a_scorer_of_another_package_are_planned_like_ours(
    tmp_path: Path, site: Path
) -> None:
    code, output = plan(tmp_path, site, task="riddles", template="aside", scorer="shortest")
    assert code == 0, output
    assert "2 policies x 7 items" in output
    assert "riddles: 7 items, thinking 4,000 tokens in the mean (a guess)" in output


def test_what_is_not_there_is_offered_what_is(tmp_path: Path, site: Path) -> None:
    code, output = plan(tmp_path, site, task="ridles", template="think", scorer="exact")
    assert code == 2
    assert "known are letters, aime24, " in output
    assert ", riddles; for your own questions" in output
    code, output = plan(tmp_path, site, task="riddles", template="asyde", scorer="longest")
    assert code == 2
    assert "aside" in output
    assert "'shortest'" in output
