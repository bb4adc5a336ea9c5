"""Runs whose cluster dies under them: what they say, and what they leave."""

from __future__ import annotations

import pytest

from orchestrator.experiment import load
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store
from tests.orchestrator.workplace import SLOW, Workplace, all_gone, descendants, name_of, wait_for

IMPATIENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
"""Ray takes a minute and twenty seconds for these."""


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        ("raylet/raylet", "Ray's process on this machine (raylet) has died; run the same command again"),
        # Ray itself ends a program that has lost its head, after a minute, or as the environment says.
        ("gcs_server", "GCS may have been killed"),
    ],
    ids=["raylet", "GCS"],
)
def test_a_run_whose_cluster_dies_ends_saying_so_and_the_same_command_continues(
    workplace: Workplace, victim: str, says: str
) -> None:
    workplace.environment |= IMPATIENT
    workplace.write(SLOW)
    run = workplace.start("run", "words.yaml")
    workplace.wait_until_generating(run)
    children = descendants(run)
    working = {child.pid for child in children if "raylet/" in name_of(child) or "_run_step" in name_of(child)}
    next(child for child in children if victim in name_of(child)).kill()
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert says in output
    assert "Traceback" not in output
    # Ray's per-node agents notice only after a minute; the work ends with the run.
    wait_for(lambda: all_gone([child for child in children if child.pid in working]))
    [planned] = plan(load(workplace.file), Store(workplace.folder / "runs"))
    assert planned.folder.live_lease() is None
    assert planned.reason.startswith("continues what ")
