"""vLLM as it is on GPUs, where model runner V2 decodes: its loaders and its limits.

The runner itself, interpreted, is in ``tests/faults/test_interpreted_v2.py``: that takes a minute.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.engine import arg_utils
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import build_logitsprocs
from vllm.v1.worker.gpu.sample.logits_processor import (
    build_custom_logits_processors,
    build_custom_logits_processors_params_validator,
)

from jobs.evaluate.engines.protocol import EngineSpec
from jobs.evaluate.engines.vllm import limits, processors

pytestmark = pytest.mark.processes

VOCABULARY = 262
SPEC = EngineSpec("vllm", "m", None, "bfloat16", 32_768, VOCABULARY, gpus=1, cpus=1)


def config(v2: bool, ids: int) -> Any:
    """As much of vLLM's config as decides."""
    return SimpleNamespace(
        use_v2_model_runner=v2,
        model_config=SimpleNamespace(get_vocab_size=lambda: ids),
        scheduler_config=SimpleNamespace(max_num_seqs=4),
        speculative_config=None,
        reasoning_config=None,
        additional_config={"vocabulary": VOCABULARY},
    )


def states() -> Any:
    names = ("device", "max_num_reqs", "vocab_size", "all_token_ids", "prompt_len", "prefill_len", "total_len")
    return SimpleNamespace(**dict.fromkeys(names))


def test_the_mask_of_v2_is_what_its_loader_takes_and_masks_what_has_no_token() -> None:
    padded = config(v2=True, ids=272)
    names = processors(padded, VOCABULARY)
    build_custom_logits_processors_params_validator(names)(SamplingParams())  # as the frontend does
    (mask,) = build_custom_logits_processors(padded, states(), False, names)
    assert mask.add_request(0, SamplingParams(temperature=0)), "a mask that is not applied masks nothing"
    masked = mask.apply(torch.zeros(3, 272), None)
    assert masked[:, VOCABULARY:].eq(-torch.inf).all()
    assert masked[:, :VOCABULARY].eq(0).all()


def test_v1_gets_processors_of_its_own() -> None:
    padded = config(v2=False, ids=272)
    found = build_logitsprocs(padded, torch.device("cpu"), False, False, processors(padded, VOCABULARY))
    assert {type(each).__name__ for each in found.all} >= {"VocabularyMaskV1", "Streams"}


def test_only_sweeps_with_penalties_that_count_what_was_written_get_the_processor_that_counts_it() -> None:
    names = processors(config(v2=True, ids=VOCABULARY), VOCABULARY, counts_written=True)
    assert [name.rpartition(":")[2] for name in names] == ["WrittenPenalties"]
    build_custom_logits_processors_params_validator(names)(SamplingParams())
    (penalties,) = build_custom_logits_processors(config(v2=True, ids=VOCABULARY), states(), False, names)
    assert not penalties.add_request(0, SamplingParams(temperature=0)), "a request without penalties costs nothing"


def test_a_model_without_padding_gets_no_mask() -> None:
    assert processors(config(v2=True, ids=VOCABULARY), VOCABULARY) == []
    assert not any("Mask" in name for name in processors(config(v2=False, ids=VOCABULARY), VOCABULARY))


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 80, "NVIDIA H100 80GB HBM3")


def card(monkeypatch: pytest.MonkeyPatch, memory: int, name: str) -> None:
    platform = SimpleNamespace(
        get_device_total_memory=lambda: memory << 30,
        get_device_name=lambda: name,
        is_tpu=lambda: False,
        is_cpu=lambda: False,
    )
    monkeypatch.setattr(arg_utils, "current_platform", platform)


def limited(**spec: Any) -> tuple[int, int]:
    fields: dict[str, Any] = {**vars(SPEC), **spec}
    found = limits(EngineSpec(**fields), *arg_utils.EngineArgs.get_batch_defaults(1))
    return found["max_num_seqs"], found["max_num_batched_tokens"]


@pytest.mark.usefixtures("h100")
def test_every_unit_in_flight_and_its_forks_have_a_seat() -> None:
    assert limited(in_flight=256, seats=512) == (512, 8192)
    assert limited(in_flight=8, seats=16) == (16, 8192)
    assert limited(in_flight=256, seats=256 * 9) == (1024, 8192), "no more than vLLM takes for the card"
    assert limited(in_flight=800, seats=2400) == (1600, 8192), "unless units themselves need them"
    assert limited(in_flight=8000, seats=16_000) == (16_000, 16_000), "a step has a token for each"


def test_a_smaller_card_takes_smaller_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    card(monkeypatch, 40, "NVIDIA A100-SXM4-40GB")
    assert limited(in_flight=256, seats=512) == (512, 2048)
    assert limited(in_flight=64, seats=64 * 9) == (256, 2048)


@pytest.mark.usefixtures("h100")
def test_what_resources_say_counts() -> None:
    assert limited(seats=512, max_num_seqs=40) == (40, 8192)
    assert limited(seats=512, max_num_batched_tokens=16_384) == (512, 16_384)
    assert limited(seats=512, max_num_batched_tokens=100) == (100, 100)
    assert limited(seats=512, max_num_seqs=9000) == (9000, 9000)
