"""The loss over a vocabulary in chunks, against whole logits."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

from jobs.finetune import cross_entropy as ours
from jobs.finetune.model import sum_of_losses

_PEAK = """
import re, sys, torch
if "older" in sys.argv:
    del torch.nn.functional.linear_cross_entropy, torch.nn.LinearCrossEntropyOptions
from jobs.finetune.model import sum_of_losses
tokens, width, words = 1024, 64, 152064
torch.set_num_threads(1)
hidden = torch.randn(tokens, width, requires_grad=True)
vocabulary = torch.randn(words, width, requires_grad=True)
labels = torch.randint(words, (tokens,))
def peak():
    # Not getrusage: a process inherits the peak of the one that started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sum_of_losses(hidden[:1], vocabulary, labels[:1]).backward()
before = peak()
if "chunks" in sys.argv:
    loss = sum_of_losses(hidden, vocabulary, labels)
else:
    loss = torch.nn.functional.cross_entropy(hidden @ vocabulary.T, labels, reduction="sum")
loss.backward()
print(peak() - before)
"""


def _difference(dtype: torch.dtype) -> tuple[float, float]:
    """Of the loss, per token, and of the gradients, relative to the largest."""
    torch.manual_seed(0)
    hidden = torch.randn(100, 16, dtype=dtype)
    vocabulary = torch.randn(4000, 16, dtype=dtype) / 4
    labels = torch.randint(4000, (100,))
    leaves = [tensor.clone().requires_grad_() for tensor in (hidden, vocabulary)]
    loss = sum_of_losses(leaves[0], leaves[1], labels)
    (loss / 100).backward()
    exact = [tensor.double().requires_grad_() for tensor in (hidden, vocabulary)]
    whole = cross_entropy(exact[0] @ exact[1].T, labels, reduction="sum")
    (whole / 100).backward()
    worst = max(
        float((leaf.grad - reference.grad).abs().max() / reference.grad.abs().max())
        for leaf, reference in zip(leaves, exact, strict=True)
    )
    return abs((loss - whole).item()) / 100, worst


@pytest.fixture(params=["torch's own", "an older torch"])
def torchs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "an older torch":
        monkeypatch.setattr(ours, "TORCHS", None)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "gradients"),
    [(torch.float64, 1e-12, 1e-12), (torch.float32, 1e-5, 1e-5), (torch.bfloat16, 5e-3, 2e-2)],
)
def test_chunks_give_the_loss_and_the_gradients_of_whole_logits(
    torchs: None, dtype: torch.dtype, tolerance: float, gradients: float
) -> None:
    loss, worst = _difference(dtype)
    assert loss < tolerance
    assert worst < gradients


def test_a_batch_that_learns_nothing_loses_nothing(torchs: None) -> None:
    hidden, vocabulary = torch.randn(0, 4, requires_grad=True), torch.randn(50, 4, requires_grad=True)
    loss = sum_of_losses(hidden, vocabulary, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert vocabulary.grad.abs().max() == 0


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("at_once", [None, 1, 7, 100, 128])
def test_with_an_older_torch_losses_and_gradients_are_those_of_linear_cross_entropy(
    monkeypatch: pytest.MonkeyPatch, at_once: int | None, reduction: str
) -> None:
    torch.manual_seed(0)
    hidden, vocabulary = torch.randn(100, 16, dtype=torch.float64), torch.randn(400, 16, dtype=torch.float64)
    labels, weight = torch.randint(400, (100,)), torch.rand(100 if reduction == "none" else (), dtype=torch.float64)

    def both(frozen: bool) -> list[torch.Tensor]:
        leaves = hidden.clone().requires_grad_(), vocabulary.clone().requires_grad_(not frozen)
        losses = ours.cross_entropies(*leaves, labels, at_once=at_once, reduction=reduction)
        (losses * weight).sum().backward()
        return [losses.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    torchs = both(frozen=False)
    monkeypatch.setattr(ours, "TORCHS", None)
    assert len(torchs) == 3
    torch.testing.assert_close(both(frozen=False), torchs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(both(frozen=True), torchs[:2], rtol=1e-12, atol=1e-12)


@pytest.mark.seconds
def test_chunks_need_less_than_a_tenth_of_the_memory_of_whole_logits() -> None:
    def peak(*how: str) -> int:
        command = [sys.executable, "-c", _PEAK, *how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    whole = peak("whole")
    assert peak("chunks", "newer") < whole / 10
    assert peak("chunks", "older") < whole / 10
