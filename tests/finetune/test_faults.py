"""What becomes of a device's errors, wrapped as Ray Train wraps them: who is told what, and what is tried again."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.worker_group.poll import WorkerGroupPollStatus, WorkerStatus
from ray.train.v2._internal.util import construct_user_exception_with_traceback
from ray.train.v2.api.exceptions import WorkerGroupError
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import GPT2Config

from benchmarks.count_memory import QWEN_32B, qwen2
from jobs.finetune import faults
from jobs.finetune.config import FinetuneConfig
from jobs.finetune.faults import is_hardware_fault, is_out_of_memory, out_of_memory, tried
from jobs.finetune.gang import _loss
from jobs.finetune.planning.estimate import setting_of
from orchestrator.experiment import load
from orchestrator.failures import diagnose
from orchestrator.job.errors import StepError
from tests.conftest import ROOT

# As torch, CUDA, NCCL and cuBLAS write them.
FULL = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.90 GiB. GPU 3 has a total capacity of 79.11 GiB of which 1.02 GiB is free."
)
FULL_IN_NCCL = dist.DistBackendError(
    "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error, NCCL version 2.28.9\n"
    "Last error:\nCuda failure 2 'out of memory'"
)
FULL_IN_CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
FULL_ON_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4294967296 bytes. Error code 12 (Cannot allocate memory)"
)
ECC = torch.AcceleratorError(
    "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be reported late"
)
NVLINK = torch.AcceleratorError("CUDA error: Nvlink uncorrectable error encountered")
LAUNCH = torch.AcceleratorError("CUDA error: unspecified launch failure")
ECC_IN_NCCL = dist.DistBackendError("NCCL error: Cuda failure 214 'uncorrectable ECC error encountered'")
GONE = RuntimeError("No CUDA GPUs are available")
ASSERT = torch.AcceleratorError("CUDA error: device-side assert triggered")
ILLEGAL = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
BUG = RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")
LOST = dist.DistBackendError("NCCL communicator was aborted on rank 0.")
DEAD = WorkerHealthCheckFailedError("", OSError("the process died"))


def wrapped(*errors: Exception) -> WorkerGroupError:
    """As the coordinator of a gang gets it, in which worker n raised the n-th error."""

    def status(error: Exception) -> WorkerStatus:
        if error is DEAD:
            return WorkerStatus(running=False, error=error)
        try:
            raise error
        except RuntimeError as raised:
            returned = construct_user_exception_with_traceback(raised)
        return WorkerStatus(running=False, error=pickle.loads(pickle.dumps(returned)))

    return WorkerGroupPollStatus(dict(enumerate(map(status, errors)))).get_worker_group_error()


@pytest.mark.parametrize("error", [FULL, FULL_IN_NCCL, FULL_IN_CUBLAS, FULL_ON_CPU], ids=lambda error: str(error)[:30])
@pytest.mark.parametrize("others", [(), (LOST,), (DEAD,)])
def test_memory_that_does_not_suffice_is_the_user_s_and_never_tried_again(
    error: Exception, others: tuple[Exception, ...]
) -> None:
    with pytest.raises(
        StepError, match=r"^resources: a worker ran out of memory \([^\n]*tokens_in_memory[^\n]*$"
    ) as told:
        _loss(wrapped(*others, error), [])
    assert diagnose(told.value).cause == "configuration"


@pytest.mark.parametrize(
    "error", [ECC, NVLINK, LAUNCH, ECC_IN_NCCL, GONE], ids=lambda error: " ".join(str(error).split()[-4:])
)
@pytest.mark.parametrize("others", [(), (LOST,), (BUG,), (DEAD,)])
def test_a_card_that_fails_is_infrastructure(error: Exception, others: tuple[Exception, ...]) -> None:
    cause, reason = _loss(wrapped(*others, error), [])
    assert (cause, reason.partition(":")[0]) == ("infrastructure", f"the card of worker {len(others)} failed")
    assert "\n" not in reason


@pytest.mark.parametrize("error", [ASSERT, ILLEGAL, BUG], ids=str)
def test_what_a_program_does_to_a_card_would_come_again(error: Exception) -> None:
    with pytest.raises(WorkerGroupError):
        _loss(wrapped(LOST, error), [])


def test_the_kinds_do_not_overlap() -> None:
    for error in (FULL, FULL_IN_NCCL, FULL_IN_CUBLAS, FULL_ON_CPU):
        assert is_out_of_memory(error)
        assert not is_hardware_fault(error)
    for error in (ECC, NVLINK, LAUNCH, ECC_IN_NCCL, GONE):
        assert is_hardware_fault(error)
        assert not is_out_of_memory(error)


def test_what_was_asked_for_is_read_from_the_message() -> None:
    assert tried(FULL) == 2.9 * 2**30
    assert tried(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB.")) == 2**29
    assert tried(FULL_IN_CUBLAS) == 0


@pytest.fixture
def gang() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=3, world_size=16)
    yield
    dist.destroy_process_group()


def recipe() -> FinetuneConfig:
    [step] = load(ROOT / "experiments" / "s1" / "finetune.yaml").steps.values()
    assert isinstance(step.config, FinetuneConfig)
    return step.config


def test_the_message_has_the_plan_the_peak_and_the_nearest_settings_that_fit_what_was_taken(
    gang: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "peak_memory", lambda device: 81.9e9)
    told = str(out_of_memory(FULL, recipe(), qwen2(QWEN_32B), torch.device("cpu")))
    planned = setting_of(recipe()).needs(QWEN_32B).total
    assert told.startswith(
        "resources: worker 3 ran out of memory: it had 83.5 GB, took 81.9 GB at its peak when 3.1 GB more were asked "
        f"for; the plan expects {planned / 1e9:.1f} GB, in "
    )
    assert "\n" not in told
    offered = told.partition("these would fit: ")[2].split("; ")
    assert "resources.machine: h200" in offered
    [block] = [int(words.removeprefix("block_size: ")) for words in offered if words.startswith("block_size: ")]
    # By the plan alone the whole block would fit, and the next larger one would not by what was taken.
    more = (81.9e9 + 2.9 * 2**30) / planned

    def needs(block: int) -> float:
        return replace(setting_of(recipe()), block_size=block, tokens_in_memory=block).needs(QWEN_32B).total * more

    assert needs(block) <= 83.5e9 < needs(block + 1024)


def test_a_plan_for_another_card_does_not_hide_that_memory_was_short(
    gang: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe was planned for 80 GB and ran on 40."""
    monkeypatch.setattr(faults, "peak_memory", lambda device: 40e9)
    monkeypatch.setattr(faults, "_size_of", lambda device, setting: 40.8e9)
    told = str(out_of_memory(FULL, recipe(), qwen2(QWEN_32B), torch.device("cuda")))
    assert "it had 40.8 GB" in told
    assert told.endswith("these would fit: resources.machine: h200")


def test_where_the_plan_knows_nothing_of_the_model_the_message_says_so(
    gang: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig.model_validate_json(json.dumps({"model": "someone/gpt", "data": "${letters}"}))
    told = str(out_of_memory(FULL_IN_CUBLAS, config, GPT2Config(), torch.device("cpu")))
    assert "what is planned is not known (its model_type is 'gpt2'" in told
    assert "lower resources.tokens_in_memory" in told
