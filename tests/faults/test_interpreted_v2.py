"""vLLM's model runner V2 itself, which GPUs take, on CPUs: it keeps the protocol that all engines keep."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.evaluate import tiny

CHECKS = ("requests", "penalties", "leaves", "restarts")


def test_v2_itself_keeps_the_protocol_and_goes_on_in_its_streams(tmp_path: Path) -> None:
    model = tiny.save(tmp_path, 256)
    program = [sys.executable, "-m", "tests.faults.interpreted_v2", str(model)]
    ended = subprocess.run(program, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    held = [line for line in ended.stdout.splitlines() if line in CHECKS]
    assert (ended.returncode, held) == (0, list(CHECKS)), ended.stderr[-3000:]
    assert "vllm: model runner V2, max_num_seqs 256, max_num_batched_tokens 2048" in ended.stdout
