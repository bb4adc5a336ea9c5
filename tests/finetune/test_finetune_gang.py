"""What a gang makes of losses and shortages; on real clusters that is in tests/faults/test_gang.py."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from ray.autoscaler.v2.schema import ClusterStatus, LaunchRequest, NodeInfo
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from jobs.cluster_state import Machine, starting
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.gang import STARTS_WITHIN, _enough, _enough_or_coming, _loss
from jobs.finetune.leaving import Leaving
from orchestrator.job.errors import StepError


def config(**resources: object) -> FinetuneConfig:
    fields = {"model": {"random": "qwen2", "layers": 2, "hidden_size": 64}, "data": "${letters}", "batch_size": 4}
    return FinetuneConfig.model_validate_json(
        json.dumps(fields | {"resources": {"workers": 2, "wait": 60.0} | resources})
    )


@pytest.mark.parametrize(
    ("coming", "waited", "goes_on"),
    [(["p5.48xlarge"], 600.0, True), ([], 600.0, False), (["p5.48xlarge"], STARTS_WITHIN, False)],
)
def test_a_gang_waits_longer_for_machines_that_are_on_their_way(
    coming: list[str], waited: float, goes_on: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for user in ("jobs.finetune.gang", "jobs.cluster_state", "jobs.gang_scheduling"):
        monkeypatch.setattr(f"{user}.machines", list)
    monkeypatch.setattr("jobs.gang_scheduling._groups", lambda: ())
    monkeypatch.setattr("jobs.gang_scheduling.SETTLES_SECONDS", 0)
    monkeypatch.setattr("jobs.finetune.gang.starting", lambda: coming)
    if goes_on:
        assert _enough_or_coming(config(), 2, waited) == 2
        assert "Still waiting for 2 x (1 CPU): 1 x p5.48xlarge start" in capsys.readouterr().out
    else:
        with pytest.raises(StepError, match="asked for 2 x"):
            _enough_or_coming(config(), 2, waited)


def test_machines_that_the_autoscaler_has_asked_for_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ClusterStatus(
        pending_launches=[LaunchRequest("p5.48xlarge", "gpu", 2, LaunchRequest.Status.PENDING, 0)],
        pending_nodes=[NodeInfo("p5.48xlarge", "gpu-spot", "i-1", "", "SETTING_UP")],
        failed_launches=[LaunchRequest("p5.48xlarge", "gpu", 1, LaunchRequest.Status.FAILED, 0)],
    )
    monkeypatch.setattr("jobs.cluster_state.get_cluster_status", lambda address: status)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address=""))
    assert starting() == ["gpu", "gpu", "gpu-spot"]


GLOO = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.7]:1")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (
            WorkerGroupError("", {1: GLOO}),
            "infrastructure: worker 1 lost its connection to another: [/pytorch/third_party/gloo",
        ),
        (
            WorkerGroupError("", {0: dist.DistNetworkError("refused")}),
            "infrastructure: worker 0 lost its connection to another: refused",
        ),
        (
            WorkerGroupError("", {0: GLOO, 1: WorkerHealthCheckFailedError("", OSError("gone"))}),
            "infrastructure: worker 1 was lost: gone",
        ),
        (ControllerError(WorkerGroupStartupFailedError("")), "infrastructure: a worker died while the gang started"),
        (WorkerGroupError("", {0: GLOO, 1: Leaving("step 7 is saved")}), "preempted: a machine is about to go"),
    ],
)
def test_a_loss_has_a_cause(error: TrainingFailedError, cause: str) -> None:
    assert ": ".join(_loss(error, [])).startswith(cause)


@pytest.mark.parametrize(
    ("mistake", "explains"),
    [(StepError("data: is empty"), True), (OSError(errno.ENOSPC, "full"), True), (ValueError("a bug"), False)],
)
def test_a_mistake_is_no_loss_whatever_became_of_the_others(mistake: Exception, explains: bool) -> None:
    error = WorkerGroupError("", {0: GLOO, 1: mistake})
    with pytest.raises((StepError, OSError, WorkerGroupError)) as raised:
        _loss(error, [])
    assert raised.value is (mistake if explains else error)


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("free", "expected"),
    [([4.0, 3.0, 1.5], 6), ([5.0], 4), ([3.0], 3), ([1.0], None)],
)
def test_enough_workers_still_share_a_batch_equally(
    free: list[float], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [Machine("", "cpu-spot", {"CPU": 4.0}, {"CPU": cpus}) for cpus in free]
    for user in ("jobs.finetune.gang", "jobs.cluster_state", "jobs.gang_scheduling"):
        monkeypatch.setattr(f"{user}.machines", lambda: there)
    monkeypatch.setattr("jobs.gang_scheduling._groups", lambda: ())
    settings = config(workers=12, min_workers=2).model_copy(update={"batch_size": 12})
    if expected is None:
        with pytest.raises(StepError, match=r"12 x \(1 CPU\).* has 4 CPU \(1 free\) on 1 x cpu-spot of 4 CPU; 1 of 12"):
            _enough(settings, 12)
    else:
        assert _enough(settings, 12) == expected
