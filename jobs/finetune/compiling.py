"""Compiled layers: torch.compile writes one kernel for what would be several, in C++ for CPUs and Triton for GPUs."""

from __future__ import annotations

import torch
from torch import nn

from jobs.finetune.model import decoder_layers
from orchestrator.job.errors import StepError


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Has each decoder layer of `model` compiled when it is first run.

    Raises StepError where what it is written in cannot be compiled, which would otherwise show after minutes.
    """
    # Takes a second to import.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    if device.type == "cuda":
        if not has_triton():
            raise StepError("resources.compile: needs Triton, which is not installed here: install it, or leave it out")
    else:
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler as error:
            raise StepError(
                "resources.compile: needs a C++ compiler, and there is none on this machine: install g++, name one in "
                "CXX, or leave it out"
            ) from error
    for layer in decoder_layers(model):
        layer.compile()
