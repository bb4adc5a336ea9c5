from __future__ import annotations

import subprocess
import sys
import time
from collections import deque

import pytest

from jobs.evaluate.engines.log_tail import log_tail, reason
from jobs.evaluate.engines.vllm import with_reason


def test_what_a_child_says_is_kept_and_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import sys, time; print('loading'); sys.stdout.flush(); time.sleep(0.5); raise ValueError('no weights')"
    with log_tail() as tail:
        child = subprocess.Popen([sys.executable, "-c", program])
    print("our own", flush=True)
    child.wait()
    deadline = time.monotonic() + 60
    while "ValueError: no weights" not in tail and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tail[0] == "loading"
    assert "our own" not in tail
    captured = capfd.readouterr()
    assert "ValueError: no weights" in captured.err
    assert captured.out == "our own\n"


def test_the_reason_is_the_first_exception_and_the_last_line() -> None:
    lines = [
        "loading 3 files",
        "(Worker pid=7) ERROR 11-22 06:45 [worker.py:7] safetensors_rust.SafetensorError: header too large",
        "Traceback (most recent call last):",
        "RuntimeError: the worker failed, see above",
    ]
    assert (
        reason(lines)
        == "safetensors_rust.SafetensorError: header too large ... RuntimeError: the worker failed, see above"
    )
    assert reason(lines[:2]) == lines[1]
    assert reason(lines[:1]) == "loading 3 files"
    remarks = [
        "[W1122 16:06:56.85 utils.cpp:68] Warning: NUMA binding",
        "INFO 11-22 [core.py:1] ready",
        "a.py:1: UserWarning: x",
        "(EngineCore pid=7) torch/jit.py:51: FutureWarning: isinstance(treespec, LeafSpec) is deprecated",
        "(EngineCore pid=7)   assert isinstance(treespec, LeafSpec)",
        "  warnings.warn(",
    ]
    assert reason([*lines, *remarks]) == reason(lines)
    assert reason(remarks) == ""
    assert reason([*remarks, "WARNING retrying after OSError: disk gone"]) == "OSError: disk gone"
    assert reason([]) == ""


def test_a_module_that_is_not_there_is_named_whatever_follows_from_it() -> None:
    said = deque(["subprocess.CalledProcessError: Command returned 1", "No module named 'torchvision'", "ERROR: gone"])
    told = with_reason(ValueError("Model architectures failed to be inspected"), said)
    assert told == "it has no torchvision: install that where replicas run, of the same build as torch"
