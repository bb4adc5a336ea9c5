"""Weights come to a machine once, before its engines start, and it is said how much of them is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.evaluate.engines.weights import LOAD_BYTES_PER_SECOND, READY_SECONDS, ready_seconds, wanted
from tests.conftest import ROOT
from tests.evaluate.engines.model_hub import COMMIT, NAME, hub

WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b"{}",
    WEIGHTS: os.urandom(3 << 20),
    "pytorch_model.bin": b"the same in another format",
    "original/consolidated.bin": b"and once more",
}
CODE = f"""
import json, sys
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.engines.weights import fetch
told = []
try:
    folder = fetch({NAME!r}, {COMMIT!r}, lambda there, of: told.append((there, of)))
    print(json.dumps([sorted(path.name for path in folder.iterdir()), told]))
except EngineError as error:
    print(json.dumps(str(error)))
"""


def processes(home: Path, address: str, count: int, **more: str) -> list[Any]:
    """What so many processes of one machine that fetch at the same time say."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": address, "PYTHONPATH": str(ROOT), **more}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        if name not in more:
            environment.pop(name, None)
    started = [
        subprocess.Popen([sys.executable, "-c", CODE], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in started]


@pytest.mark.seconds
def test_many_replicas_of_a_machine_fetch_once_and_say_in_bytes_how_far_it_is(tmp_path: Path) -> None:
    with hub(FILES, seconds=1.5) as served:
        found = processes(tmp_path, served.address, 3)
        assert served.sent[WEIGHTS] == 1
        assert {name for name in served.sent if name} == {WEIGHTS, "config.json"}
    whole = len(FILES[WEIGHTS]) + len(FILES["config.json"])
    steps = []
    for names, told in found:
        assert names == ["config.json", WEIGHTS]
        assert told[-1] == [whole, whole]
        steps.append({there for there, _ in told})
    # One of them fetched, and saw it come; the others waited, and found it there.
    assert max(len(each) for each in steps) > 2
    assert sorted(len(each) for each in steps)[:2] == [1, 1]
    # Without the hub, from now on.
    names, told = processes(tmp_path, "http://127.0.0.1:1", 1, HF_HUB_OFFLINE="1")[0]
    assert names == ["config.json", WEIGHTS]


def test_what_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    (said,) = processes(tmp_path, "http://127.0.0.1:1", 1, HF_HUB_OFFLINE="1")
    assert str(said).startswith(f"the weights of {NAME} cannot be fetched: ")
    assert "\n" not in str(said)


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        (["config.json", "a.safetensors", "b.safetensors", "a.bin"], ["config.json", "a.safetensors", "b.safetensors"]),
        (["config.json", "a.bin", "x.gguf", "model.onnx"], ["config.json", "a.bin"]),
        (["tokenizer.model", "original/a.safetensors", "a.safetensors"], ["tokenizer.model", "a.safetensors"]),
    ],
)
def test_one_format_is_fetched(there: list[str], kept: list[str]) -> None:
    assert [each.filename for each in wanted([SimpleNamespace(filename=name) for name in there])] == kept


def test_an_engines_limit_follows_the_size_of_its_model(tmp_path: Path) -> None:
    assert ready_seconds(str(tmp_path)) == READY_SECONDS
    for shard in range(2):
        with (tmp_path / f"model-{shard}.safetensors").open("wb") as file:
            file.truncate(32_500_000_000)
    (tmp_path / "config.json").write_text("{}")
    assert ready_seconds(str(tmp_path)) == READY_SECONDS + round(65e9 / LOAD_BYTES_PER_SECOND) == 1900
