"""A finished sweep as pandas frames: its own files, read, and nothing measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from jobs.evaluate.config import EvaluateConfig
from orchestrator.job.context import StepContext
from orchestrator.job.frames import Frames


def frames(config: EvaluateConfig, context: StepContext) -> Frames:
    """The frames of a sweep that is done. Raises StoreError where they have to be fetched and cannot be."""
    output = context.output
    points = pd.read_csv(output / "table.csv", keep_default_na=False, na_values=[""])
    curves = _curves(json.loads((output / "curves.json").read_text()))
    named = [curves.get((task, policy), "") for task, policy in zip(points.task, points.policy, strict=True)]
    points.insert(1, "curve", named)
    if "score" not in points:  # of one sample per item
        points = points.assign(score="accuracy", k=1)
    comparisons = json.loads((output / "comparisons.json").read_text())["comparisons"]
    return Frames(points, pd.DataFrame(comparisons), pd.read_parquet(output / "samples.parquet"))


def _curves(written: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """By task and policy, the first curve that it is on."""
    curve_of: dict[tuple[str, str], str] = {}
    for curve in written:
        for point in curve["points"]:
            curve_of.setdefault((curve["task"], point["policy"]), curve["curve"])
    return curve_of
