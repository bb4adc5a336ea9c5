"""Samples as a sweep would leave them, with accuracies and lengths of the tiny model's prototype.

Whether an item is answered correctly depends on how hard it is and a little on chance, so policies agree on most items,
as real ones do. Accuracies come out exactly as asked. Where items have several samples, wrong answers differ too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.extensions import Extension
from jobs.evaluate.sweep.policy import Policy
from orchestrator.job.context import StepContext, StepInput

Shape = Mapping[Policy, tuple[float, float]]
"""Accuracy and mean thinking tokens of each policy."""

LETTERS: Shape = {
    Budget(4): (0.10, 4.0),
    Budget(8): (0.31, 7.8),
    Budget(16): (0.465, 12.7),
    Budget(32): (0.47, 13.0),
    Budget(): (0.47, 13.0),
    Extension(None, "Wait", 1): (0.955, 34),
    Extension(None, "Wait", 2): (0.90, 55),
    Extension(None, "Wait", 4): (0.56, 92),
    Extension(None, "Hmm", 1): (0.46, 33),
    Extension(None, "Hmm", 2): (0.43, 54),
    Extension(None, "Hmm", 4): (0.39, 91),
    Extension(None, "Alternatively", 1): (0.71, 27),
    Extension(None, "Alternatively", 2): (0.66, 41),
    Extension(None, "Alternatively", 4): (0.50, 70),
    Extension(None, "", 1): (0.97, 33),
    Extension(None, "", 2): (0.91, 54),
    Extension(None, "", 4): (0.65, 93),
}

CONFIG = """{"model": "${tiny}", "tasks": ["letters"], "budgets": [4, 8, 16, 32, "auto"],
 "extensions": {"strings": ["Wait", "Hmm", "Alternatively", ""], "counts": [1, 2, 4]}}"""
"""The evaluate step that :data:`LETTERS` would be the result of."""

CURVES = ("budget", "Wait", "Hmm", "Alternatively", "nothing")


def simulate(shape: Shape = LETTERS, items: int = 200, samples: int = 1, task: str = "letters") -> pd.DataFrame:
    """One row per item, sample and policy, with the columns of ``samples.parquet``."""
    rng = np.random.default_rng(0)
    rows = items * samples
    mistakes = np.full(rows, "2") if samples == 1 else np.random.default_rng(1).choice(["1", "2", "4", "5"], rows)
    ease = np.repeat(rng.random(items), samples)
    frames = []
    for policy, (accuracy, tokens) in shape.items():
        luck = ease + rng.normal(0, 0.1, rows)
        correct = luck.argsort().argsort() >= round(rows * (1 - accuracy))
        forced = policy.route.budget is not None and policy.route.budget < 13
        thinking = np.floor(np.full(rows, tokens)).astype(int)
        thinking[: round(rows * (tokens % 1))] += 1
        frame = pd.DataFrame({"item": np.repeat([f"word{number}" for number in range(items)], samples)})
        frame["sample"] = np.tile(np.arange(samples), items)
        frame["policy"] = policy.name
        frame["thinking_tokens"] = thinking
        frame["injected_tokens"] = policy.count
        frame["answer_tokens"] = 4
        frame["thinking_end"] = "forced" if forced else "natural"
        frame["answer_end"] = "stop"
        frame["extensions_used"] = policy.count
        frame["extensions_skipped"] = 0
        frame["continued"] = False
        frame["answer"] = np.where(correct, "Final Answer: 3", np.char.add("Final Answer: ", mistakes))
        frame["task"] = task
        frame["gold"] = "3"
        frame["extracted"] = np.where(correct, "3", mistakes)
        frame["rule"] = "answer"
        frame["verdict"] = np.where(correct, "correct", "wrong")
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def context(folder: Path, name: str = "sweep", fingerprint: str = "0123456789abcdef") -> StepContext:
    """A step of the experiment ``scaling-sweep`` that takes the model ``tiny``."""
    step = folder / f"{name}-{fingerprint}"
    step.mkdir(parents=True, exist_ok=True)
    return StepContext(
        experiment="scaling-sweep",
        name=name,
        fingerprint=fingerprint,
        storage=step,
        traces=folder / "traces",
        inputs={"tiny": StepInput("tiny", "fedcba9876543210", folder)},
    )
