"""Cluster files that Ray's autoscaler cannot simulate here; those it can are in tests/faults/test_autoscaling.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("file", "says"),
    [("cluster/none.yaml", "none.yaml is not a file"), ("experiments/scaling_sweep.yaml", "ray up")],
)
def test_a_cluster_file_that_cannot_be_simulated_is_refused_in_one_line(
    checkout: Path, environment: dict[str, str], file: str, says: str
) -> None:
    command = [sys.executable, "-m", "cluster.local", "--autoscaling", file, "true"]
    result = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert says in result.stderr.splitlines()[0]
    assert "Traceback" not in result.stderr
