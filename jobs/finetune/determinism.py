"""The same bits from the same step, on CUDA too: what torch has for it, for ``resources.deterministic``.

By default kernels add up in whatever order their threads come: attention's backward pass and ``index_add_`` with
atomics, cuBLAS with workspaces that its streams share. Two runs then differ by rounding, and so does one that continues
from a checkpoint. CPUs give the same bits anyway. NCCL's sums have one order for one topology: the same gang on the
same machines gives the same bits, another need not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from orchestrator.job.errors import StepError

WORKSPACE = ":4096:8"
"""cuBLAS's: eight of 4 MiB for each handle and stream, so that none is shared."""

_REFUSED = "does not have a deterministic implementation"
"""What torch says of an operation that has one order only by chance."""


@contextmanager
def same_bits(wanted: bool) -> Iterator[None]:
    """Inside, torch takes deterministic kernels alone, if that is `wanted`. To be entered before cuBLAS is first used.

    Raises StepError for an operation that has none.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACE)
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    # Attention's flash and memory-efficient backward passes heed it too, and cuDNN's attention is then not taken.
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
        operation = str(error).partition(_REFUSED)[0].strip()
        raise StepError(
            f"resources.deterministic: {operation} of this model has no deterministic kernel in torch "
            f"{torch.__version__}: leave it out, or set resources.activation_checkpointing or precision otherwise"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
