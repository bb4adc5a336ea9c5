"""A Ray cluster for a benchmark alone: one CPU, and the programs of this folder found by its processes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from orchestrator.job.resources import NAMESPACE

HERE = Path(__file__).parent


@contextmanager
def own_cluster() -> Iterator[Path]:
    """Yields a folder for the benchmark's files. It is removed in the end, with the cluster's own."""
    with tempfile.TemporaryDirectory(prefix="bench", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            namespace=NAMESPACE,
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=f"{folder}/ray",  # short, because sockets lie in it
            runtime_env={"env_vars": {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"}},
        )
        try:
            yield Path(folder)
        finally:
            ray.shutdown()
