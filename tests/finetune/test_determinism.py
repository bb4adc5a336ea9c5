"""``resources.deterministic``: torch is told, for as long as a worker works, and says no in words."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from jobs.finetune import worker
from jobs.finetune.determinism import WORKSPACE, same_bits
from orchestrator.fingerprint import identity
from orchestrator.job.errors import StepError
from tests.finetune.gang import config


@pytest.fixture(autouse=True)
def _without_a_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "x")  # so that what is set is undone
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def settings() -> tuple[Any, ...]:
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return *enabled, cudnn.deterministic, cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.parametrize("wanted", [False, True])
def test_a_worker_s_work_has_deterministic_kernels_where_the_step_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    seen = []
    monkeypatch.setattr(worker, "_work", lambda *arguments: seen.append(settings()))
    before = settings()
    recipe = config(resources={"deterministic": wanted})
    worker.work(worker.Assignment(recipe, None, None), torch.device("cpu"))
    assert seen == [(True, False, True, False, WORKSPACE) if wanted else before]
    assert settings()[:4] == before[:4]


def test_flags_are_as_before_after_an_error_and_the_user_s_workspace_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = settings()
    with pytest.raises(RuntimeError, match="another"), same_bits(True):
        raise RuntimeError("another")
    assert settings() == before


def test_an_operation_without_a_deterministic_kernel_is_named() -> None:
    refused = "kthvalue CUDA does not have a deterministic implementation, but you set 'torch.use_deterministic…'"
    with pytest.raises(StepError, match=r"^resources\.deterministic: kthvalue CUDA of this model"), same_bits(True):
        raise RuntimeError(refused)


def test_it_is_no_part_of_what_a_step_is_and_the_plan_says_what_it_costs() -> None:
    plain, asked = config(), config(resources={**config().resources.model_dump(), "deterministic": True})
    assert identity("finetune", plain, {"letters": "0"}) == identity("finetune", asked, {"letters": "0"})
    assert plain.notes() == []
    [note] = asked.notes()
    assert note.startswith("resources.deterministic: costs time")
