"""The fine-tuning recipes beside the paper's own (``tests/finetune/test_shipped_recipes.py``), run scaled down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.finetune.test_shipped_recipes import RECIPES, check_that_it_runs


@pytest.mark.parametrize("file", [file for file in RECIPES if file.stem != "finetune"], ids=lambda file: file.stem)
def test_a_recipe_runs_scaled_down(cluster: None, file: Path, tmp_path: Path) -> None:
    check_that_it_runs(file, tmp_path)
