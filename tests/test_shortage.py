"""What is said to who waited for resources in vain."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jobs import cluster_state
from jobs.cluster_state import Machine, shortage


def machine(kind: str, cpus: float, gpus: float, free: Mapping[str, float] | None = None) -> Machine:
    total = {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}
    return Machine("", kind, total, total if free is None else free)


HEAD = machine("head", 0, 0)


@pytest.mark.parametrize(
    ("there", "bundle", "has", "fits"),
    [
        ([HEAD], {"CPU": 8.0}, "the cluster has 0 CPU (0 free); ", "no machine that is there has any of it: lower"),
        (
            [HEAD, machine("small", 4, 0), machine("small", 4, 0, {"CPU": 1.0})],
            {"CPU": 8.0},
            "the cluster has 8 CPU (5 free) on 2 x small of 4 CPU; ",
            "no machine there is large enough, and the nearest that one has is 4 CPU: lower",
        ),
        (
            [HEAD, machine("small", 4, 0), machine("gpus", 16, 2, {"CPU": 16.0})],
            {"CPU": 1.0, "GPU": 1.0},
            "20 CPU (20 free), 2 GPU (0 free) on 1 x small of 4 CPU, 0 GPU and 1 x gpus of 16 CPU, 2 GPU; ",
            "2 of 3 would fit if nothing else ran",
        ),
        (
            [machine("gpus", 16, 2, {"CPU": 8.0, "GPU": 1.0})],
            {"CPU": 1.0, "GPU": 1.0},
            "the cluster has 16 CPU (8 free), 2 GPU (1 free) on 1 x gpus of 16 CPU, 2 GPU; ",
            "1 of 3 would fit now, 2 if nothing else ran: lower resources.workers, wait longer",
        ),
        (
            [machine("gpus", 16, 2)],
            {"CPU": 1.0, "GPU": 4.0},
            "2 GPU (2 free)",
            "and the nearest that one has is 1 CPU, 2 GPU; machines with 4 GPU are ",
        ),
    ],
)
def test_a_shortage_says_what_there_is_by_type_and_what_would_fit(
    there: list[Machine], bundle: Mapping[str, float], has: str, fits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_state, "machines", lambda: there)
    said = shortage(bundle, 3, 60, "resources.workers")
    assert said.startswith(
        f"resources: asked for 3 x ({cluster_state.amounts(bundle)}), each on one machine, and did not get"
    )
    assert has in said
    assert fits in said
    assert "\n" not in said
