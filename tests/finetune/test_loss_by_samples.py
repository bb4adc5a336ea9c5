"""``loss: samples`` against a plain implementation: each sample by itself, its mean, and the mean of those.

That is what s1's run computed: transformers 4.46.1 divides the sum of a worker's losses by the tokens of its own batch
(``Trainer.get_batch_samples`` counts them, without asking other workers; ``fixed_cross_entropy`` divides), one sample
on each GPU, and FSDP averages over the GPUs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from jobs.finetune.batches import IGNORED, Batch, Loss, Schedule, plan_step
from jobs.finetune.data import TokenizedData, tokenize
from jobs.finetune.evaluation import held_out_loss
from jobs.finetune.model import CausalLoss, random_architecture
from jobs.finetune.packing import pack
from jobs.finetune.tokenizer import load_tokenizer
from jobs.template import TEMPLATES
from tests.finetune.gang import config, letters_samples, train_in_processes

RANDOM = config().model
TOKENIZER = load_tokenizer(RANDOM)
ROWS = 6


@pytest.fixture(scope="module")
def data() -> TokenizedData:
    """Samples of very different lengths."""
    samples = letters_samples(40)
    samples[::3] = [type(each)(each.question, each.trace * 4, each.answer) for each in samples[::3]]
    return tokenize(samples, TOKENIZER, TEMPLATES["think"], 200)


def model() -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = AutoModelForCausalLM.from_config(random_architecture(RANDOM, TOKENIZER), dtype=torch.float64)
    return made


def gradients(trained: nn.Module) -> list[Tensor]:
    return [weight.grad for weight in trained.parameters() if weight.grad is not None]


def plain(data: TokenizedData, members: tuple[int, ...], loss: Loss) -> tuple[float, list[Tensor]]:
    """The loss on samples, and its gradients: each sample goes through the model alone."""
    alone = model()
    sums, counts = [], []
    for ids, prompt in (data.sample(member) for member in members):
        tokens = torch.tensor(ids, dtype=torch.int64)
        logits = alone(input_ids=tokens[None]).logits[0, :-1]
        sums.append(cross_entropy(logits[prompt - 1 :], tokens[prompt:], reduction="sum"))
        counts.append(len(tokens) - prompt)
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    whole = torch.stack(means).mean() if loss == "samples" else torch.stack(sums).sum() / sum(counts)
    whole.backward()
    return whole.item(), gradients(alone)


@pytest.mark.seconds
@pytest.mark.parametrize("loss", ["samples", "tokens"])
@pytest.mark.parametrize("packing", [False, True], ids=["one by one", "packed"])
@pytest.mark.parametrize(("workers", "tokens"), [(1, 10**6), (1, 1), (2, 400), (3, 1)])
def test_it_is_the_mean_of_means_whatever_the_workers_the_micro_batches_and_the_packing(
    data: TokenizedData, loss: Loss, packing: bool, workers: int, tokens: int
) -> None:
    rows = pack(data, 300) if packing else data
    schedule = Schedule(len(rows), ROWS, 1, seed=0)
    causal = CausalLoss(model())
    total = 0.0
    for rank in range(workers):
        step = plan_step(schedule, 0, rows, rank=rank, workers=workers, tokens=tokens, padding=0, loss=loss)
        for batch in step.batches:
            part = causal(batch) / step.learned
            part.backward()
            total += part.item()
    expected, of_plain = plain(data, rows.members(schedule.batch(0)), loss)
    assert total == pytest.approx(expected, rel=1e-12)
    for ours, theirs in zip(gradients(causal), of_plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_the_two_are_different_losses(data: TokenizedData) -> None:
    members = tuple(range(ROWS))
    samples, tokens = (plain(data, members, loss)[0] for loss in ("samples", "tokens"))
    assert abs(samples - tokens) > 1e-4


def test_in_bfloat16_and_in_chunks_weights_count_too() -> None:
    """The recipe's own way: a wide vocabulary, in bf16."""
    torch.manual_seed(0)
    hidden = torch.randn(1, 200, 16, dtype=torch.bfloat16)
    vocabulary = torch.randn(4000, 16, dtype=torch.bfloat16) / 4
    labels = torch.randint(4000, (1, 200))
    labels[0, :37] = IGNORED
    weights = torch.rand(1, 200, dtype=torch.float64)

    class Shown(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = type("Sliding", (), {"layer_types": ["sliding_attention"]})()
            self.lm_head = nn.Linear(16, 4000, bias=False, dtype=torch.bfloat16)
            self.lm_head.weight = nn.Parameter(vocabulary)
            self.model = lambda **inputs: type("Output", (), {"last_hidden_state": hidden})()

    causal = CausalLoss(Shown())
    total = causal(Batch(labels.clamp(min=0), labels, weights=weights))
    losses = cross_entropy(
        hidden[0].double() @ vocabulary.double().T, labels[0], reduction="none", ignore_index=IGNORED
    )
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx((losses * weights[0]).sum().item(), rel=5e-3)


@pytest.mark.seconds
@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed"])
def test_a_gang_s_losses_do_not_depend_on_its_size(tmp_path: Path, strategy: str) -> None:
    recipe = config(loss="samples", strategy=strategy, resources={"tokens_in_memory": 200, "checkpoint_every": 100})

    def losses(workers: int) -> list[float]:
        folder = tmp_path / str(workers)
        folder.mkdir()
        return [report.loss for report in train_in_processes(recipe, folder, samples=18, workers=workers)]

    assert losses(2) == pytest.approx(losses(1), abs=2e-5)


class _Fixed:
    """A strategy that only evaluates."""

    def __init__(self) -> None:
        self._loss = CausalLoss(model())

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> Tensor:
        loss: Tensor = self._loss(batch)
        return loss


@pytest.mark.parametrize("loss", ["samples", "tokens"])
def test_what_is_held_out_is_measured_by_the_same_mean(data: TokenizedData, loss: Loss, tmp_path: Path) -> None:
    store = torch.distributed.FileStore(str(tmp_path / "meeting-point"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        held_out = data.choose(list(range(5)))
        cpu = torch.device("cpu")
        told = held_out_loss(_Fixed(), held_out, tokens=300, padding=0, device=cpu, loss=loss)
    finally:
        torch.distributed.destroy_process_group()
    assert told == pytest.approx(plain(held_out, tuple(range(5)), loss)[0], rel=1e-12)
