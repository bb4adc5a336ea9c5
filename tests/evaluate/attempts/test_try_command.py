"""``python -m orchestrator try`` with a real engine: in a terminal, where a model's escape sequences stay text; and
without one."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.__main__ import main
from tests.conftest import ROOT
from tests.evaluate import tiny
from tests.evaluate.attempts.pseudo_terminal import shown, terminal
from tests.evaluate.engines.test_adapter import save_adapter
from tests.evaluate.exports.experiment import finished

pytestmark = pytest.mark.processes

SAID = "\x1b]0;x\x07[red} 7"
"""What the model replies to anything: a window's title, then text."""
OURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
"""What a terminal is told: cursor and colours."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_speaker(tmp_path_factory.mktemp("try") / "model", SAID, 256, ["<think>", "t", "m", "k", ":"])


def test_thinking_streams_and_is_steered_by_keys(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator", "try", str(model), "--template", "think", "--save", "kept.jsonl"]
    with terminal(command, tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)}) as prompt:
        prompt.expect("Ask a question")
        prompt.expect("? ")
        asked = time.monotonic()
        prompt.type("How many?\n")
        prompt.expect("[red}", seconds=30)
        assert time.monotonic() - asked <= 1.0  # from Enter to the first thinking on the screen
        prompt.expect("⟨stops at ")
        prompt.expect("Enter next")
        prompt.type("w")  # appended where it ended
        assert '[2] 1x"Wait"  from [1] at' in prompt.expect("Enter next")
        prompt.type("\x1b[D\x1b[D")  # two tokens back
        prompt.expect("▏")
        prompt.type("c")
        prompt.expect("⟨cut at ")
        prompt.expect("Enter next")
        prompt.type("\n/append Hmm @2\n")
        prompt.expect('[4] "Hmm" at 2  from [3] at 2')
        prompt.expect("Enter next")
        prompt.type("f")
        prompt.expect("append there: ")
        prompt.type("Ok\n")
        prompt.expect("[5]")
        prompt.expect("Enter next")
        prompt.type("\n/temperature 0.5\n")
        prompt.expect("temperature 0.5")
        prompt.type("/budget 3\nAnd now?\n")
        prompt.expect("⟨cut at 3⟩")
        prompt.expect("Enter next")
        prompt.type("\n/compare\n/nonsense\n")
        prompt.expect("/nonsense is none of")
        prompt.type("/quit\n")
        assert prompt.end() == 0
    assert b"\x1b]" not in prompt.written
    assert b"\x07" not in prompt.written
    assert b"\x1b" not in OURS.sub(b"", prompt.written)
    assert "Traceback" not in shown(prompt.written)
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [line["number"] for line in kept] == [1, 2, 3, 4, 5, 6]
    assert [line["how"] for line in kept] == ["asked", "appended", "cut", "appended", "appended", "asked"]
    assert kept[0]["stopped_at"] == kept[0]["thinking_tokens"] == kept[1]["shared_tokens"]
    assert kept[2]["thinking_tokens"] == kept[1]["thinking_tokens"] - 2
    assert kept[3]["appended"] == [{"text": "Hmm", "at": 2, "natural": False}]
    assert (kept[5]["budget"], kept[5]["sampling"]["temperature"], kept[5]["thinking_tokens"]) == (3, 0.5, 3)
    assert all(line["finished"] for line in kept)
    assert kept[0]["first_token_seconds"] <= 1.0
    assert "\x1b]0;x" in kept[0]["thinking"]  # as the model wrote it


def test_one_question_is_asked_without_a_terminal(model: Path) -> None:
    arguments = ["try", str(model), "--template", "think", "--ask", "How many?", "--append", "Wait", "--cut", "2"]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    first, waited, cut = [json.loads(line) for line in result.stdout.splitlines()]
    assert (first["policy"], waited["policy"], cut["policy"]) == ("auto", '1x"Wait"', "2")
    assert waited["injected_tokens"] == 4
    assert cut["thinking_end"] == "forced"
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0
    assert '[2] 1x"Wait"  from [1] at' in shown.stdout
    assert not set(shown.stdout) & set("\x1b\x07")


def test_what_a_finished_step_made_is_tried_alone_in_its_sweep_and_under_an_adapter(tmp_path: Path) -> None:
    file = trained(tmp_path)
    save_adapter(next(tmp_path.glob("runs/sft_model-*/output")), tmp_path / "adapter")
    asked = ["--ask", "1+1?", "--temperature", "0", "--budget", "8", "--json", "--save", str(tmp_path / "kept.jsonl")]
    said = []
    for step in ("sft_model", "sweep", "adapted"):
        result = CliRunner().invoke(main, ["try", str(file), step, *asked])
        assert result.exit_code == 0, result.output
        (attempt,) = (json.loads(line) for line in result.stdout.splitlines())
        assert attempt["thinking_tokens"] <= 8
        said.append((attempt["thinking"], attempt["answer"]))
    assert said[0] == said[1], "of the step that made the model, and of the sweep that took it"
    assert said[2] != said[0], "an adapter makes it another"
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [(each["thinking"], each["answer"]) for each in kept] == said


def trained(folder: Path) -> Path:
    """An experiment whose model is trained, with a sweep of it and one of an adapter on it."""
    path = finished(folder)
    content = yaml.safe_load(path.read_text())
    sweep = content["steps"]["sweep"]
    adapted = {**sweep, "model": {"base": "${sft_model}", "adapter": str(folder / "adapter")}}
    path.write_text(yaml.safe_dump({**content, "steps": {**content["steps"], "adapted": adapted}}, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "--json, --append and --cut go with --ask: give the question"),
        (["--ask", "", "--template", "think"], "--ask: ask something: the question is empty"),
        (["--ask", "Why?", "--gpus", "1000"], "--gpus: 1000 is more than this machine has, which is "),
        (["--ask", "Why?", "--template", "nonsense"], "template"),
        (["--ask", "Why?", "--temperature", "nan"], "nan"),
        (["--ask", "Why?", "--template", "think", "--effort", "high"], "reasoning_effort"),
        ([], "needs a terminal: give --ask or --page"),
    ],
)
def test_what_cannot_be_tried_is_refused_in_a_line(model: Path, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["try", str(model), *arguments])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
