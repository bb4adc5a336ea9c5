"""vLLM lays a LoRA adapter on its base: greedily it says what the merged model says on the transformers engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluate.engines.test_adapter import config_of, decoded, folder

__all__ = ["folder"]


@pytest.mark.timeout(240)
def test_it_decodes_what_the_merged_model_does(folder: Path) -> None:
    adapted = config_of({"base": str(folder / "base"), "adapter": str(folder / "lora")}, engine="vllm")
    assert decoded(adapted, folder, "vllm") == decoded(config_of(str(folder / "merged")), folder)
