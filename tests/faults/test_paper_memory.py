"""All 64 layers of the paper's recipe, half a minute of counting: what a plan says of memory."""

from __future__ import annotations

import pytest

from tests.finetune.planning.test_memory_dry_run import counted, meshes_have_content, planned, recipe

__all__ = ["meshes_have_content"]


def test_the_paper_s_recipe_takes_what_the_plan_says() -> None:
    config = recipe()
    assert planned(config, layers=64).total == pytest.approx(counted(config, layers=64), rel=0.05)
