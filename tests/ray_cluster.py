"""A Ray cluster of this machine, for tests that run steps on one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import ray

from orchestrator.job.resources import NAMESPACE
from tests.conftest import ROOT

CPUS = 2


@contextmanager
def ray_cluster(environment: Mapping[str, str] | None = None) -> Iterator[Path]:
    """A cluster whose processes have `environment`. Yields the folder of its logs, whose name is short: sockets lie in
    it."""
    variables = {"PYTHONPATH": str(ROOT), **(environment or {})}
    # A worker that outlives its raylet for a moment may write a last line while the folder is removed.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            namespace=NAMESPACE,
            num_cpus=CPUS,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": variables},
            _temp_dir=folder,
        )
        try:
            yield Path(folder)
        finally:
            ray.shutdown()
