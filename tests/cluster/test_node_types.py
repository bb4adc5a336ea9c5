"""Whether a cluster file's machines can ever hold what steps ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.node_types import ClusterFileError, NodeType, read, unplaceable
from orchestrator.__main__ import main

CLUSTER = Path(__file__).parents[2] / "cluster"
SWEEP = str(CLUSTER.parent / "experiments" / "s1" / "scaling.yaml")
H100S = NodeType("h100", {"CPU": 192.0, "GPU": 8.0}, 2)


@pytest.mark.parametrize("name", ["aws", "gcp", "kuberay"])
def test_the_workers_of_every_shipped_cluster_are_understood(name: str) -> None:
    types = read(CLUSTER / f"{name}.yaml")
    assert {each.resources["GPU"] for each in types} == {8.0}
    assert all(each.most > 0 for each in types)
    assert unplaceable([{"GPU": 8.0, "CPU": 8.0}] * 2, types) == ""


def test_a_gang_fits_up_to_the_machines_that_there_can_be() -> None:
    assert unplaceable([{"GPU": 1.0}] * 16, [H100S]) == ""
    assert unplaceable([{"GPU": 1.0}] * 17, [H100S]) == (
        "asks for 17 x {1 GPU} at once, and there is room for 16 on 2 x h100 (192 CPU, 8 GPU)"
    )
    assert unplaceable([{"GPU": 1.0, "CPU": 192.0}] * 3, [H100S]).startswith("asks for 3 x {1 GPU, 192 CPU}")
    assert unplaceable([{"TPU": 1.0}], [H100S]).startswith("asks for 1 x {1 TPU}")
    assert unplaceable([], [H100S]) == unplaceable([{"CPU": 0.0}], [H100S]) == ""


def test_a_plan_refuses_in_a_line_what_no_machine_can_hold() -> None:
    plan = ["plan", SWEEP, "--cluster", str(CLUSTER / "aws.yaml")]
    assert CliRunner().invoke(main, plan).exit_code == 0
    refused = CliRunner().invoke(main, [*plan, "--set", "steps.scaling.resources.gpus=16"])
    assert refused.exit_code == 2
    assert len(refused.output.splitlines()) == 1
    assert refused.output.startswith("steps.scaling.resources: asks for 1 x {1 CPU, 16 GPU} at once, and there is room")
    assert "h100_spot (192 CPU, 8 GPU)" in refused.output


@pytest.mark.parametrize("text", ["[1, 2]", "name: x", "a: [", "available_node_types: {}"])
def test_what_is_no_cluster_file_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(ClusterFileError, match=r"cluster\.yaml") as refused:
        read(file)
    assert len(str(refused.value).splitlines()) == 1
    result = CliRunner().invoke(main, ["plan", SWEEP, "--cluster", str(tmp_path / "nowhere.yaml")])
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.output
