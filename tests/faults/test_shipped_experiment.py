"""The shipped experiment, literally as the README submits it: minutes of training by a gang of two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.test_submission import EXPERIMENT, assert_the_curve_shows_what_budget_forcing_does, cluster, submit

__all__ = ["cluster"]


def test_the_literal_submission_shows_what_budget_forcing_does(checkout: Path, cluster: Mapping[str, str]) -> None:
    output = submit(["ray", "job", "submit", EXPERIMENT], checkout, cluster)
    for step in ("letters", "tiny", "sweep"):
        assert f"{step}: done in" in output
    assert_the_curve_shows_what_budget_forcing_does(checkout / "runs")
