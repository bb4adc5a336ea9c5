"""A judge of one's own on vLLM, whose start takes most of a minute."""

from __future__ import annotations

from pathlib import Path

from tests.evaluate.grading.test_judge import check_own_judge


def test_a_judge_of_ones_own_is_asked_through_vllm_and_gives_back_what_it_held(cluster: None, tmp_path: Path) -> None:
    check_own_judge(tmp_path, "vllm")
