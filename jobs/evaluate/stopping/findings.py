"""What a sweep with rules says besides its points: ``stopping.json``, for the report, MLflow and programs.

The area under accuracy against tokens, what each step of more thinking turns over, and which settings were chosen
where a rule is cross-fitted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.evaluate.figures.tables import percent
from jobs.evaluate.stopping import reading
from jobs.evaluate.stopping.anytime import Anytime, anytime
from jobs.evaluate.stopping.reading import ProbedTask
from jobs.evaluate.stopping.replay import PROBES, in_order, rules, settings
from jobs.evaluate.sweep.policies.stop_strings import StopStrings
from jobs.evaluate.sweep.policies.stopping import CrossFitted
from jobs.evaluate.sweep.policy import Policy, walked

FILE = "stopping.json"
"""In the step's output, where it has rules."""

TURN_COLUMNS = ("more thinking", "tokens", "wrong → right", "right → wrong")

CROSS_FITTED = (
    "Settings are cross-fitted: that of each half of the items was chosen on the other half, as the cheapest whose "
    "accuracy there is within the tolerance of the best. No item has a say in what is done with it."
)


def write(policies: Sequence[Policy], seed: int, output: Path) -> None:
    """Writes the file, where there are rules."""
    replayed = rules(policies)
    if not replayed:
        return
    names = [leaf.name for leaf in in_order(walked(replayed))]
    records = [record(task, replayed, seed) for task in reading.read(output / PROBES, names, texts=False)]
    (output / FILE).write_text(json.dumps(records, indent=1) + "\n")


def read(output: Path) -> list[dict[str, Any]]:
    """What :func:`write` wrote; nothing where the sweep has no rules."""
    path = output / FILE
    records: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return records


def metrics(output: Path, task: str) -> dict[str, float]:
    """What is tracked of it: the area, with its interval."""
    names = ("area", "area_low", "area_high")
    of_task = next((each for each in read(output) if each["task"] == task), {})
    return {f"anytime_{name}": of_task[name] for name in names if of_task.get(name) is not None}


def record(task: ProbedTask, policies: Sequence[Policy], seed: int) -> dict[str, Any]:
    """What is said of one task. Shares are of 1."""
    chosen = [
        {
            "policy": policy.name,
            "tolerance": policy.tolerance,
            "settings": dict(Counter(policy.candidates[number].setting for number in settings(task, policy, seed))),
        }
        for policy in policies
        if isinstance(policy, CrossFitted)
    ]
    at_text = {leaf.name for leaf in walked(policies) if isinstance(leaf, StopStrings)}  # is at no number of tokens
    by_tokens = [name for name in task.policies if name not in at_text]
    return {**_anytime(anytime(task.of(by_tokens), seed)), "chosen": chosen}


def _anytime(found: Anytime) -> dict[str, Any]:
    return {
        "task": found.task,
        "area": _number(found.area),
        "area_low": _number(found.interval.low),
        "area_high": _number(found.interval.high),
        "turns": [
            {
                "from": turn.start,
                "to": turn.end,
                "tokens": _number(turn.tokens),
                "wrong_to_right": turn.wrong_to_right,
                "wrong_to_right_low": turn.wrong_to_right_interval.low,
                "wrong_to_right_high": turn.wrong_to_right_interval.high,
                "right_to_wrong": turn.right_to_wrong,
                "right_to_wrong_low": turn.right_to_wrong_interval.low,
                "right_to_wrong_high": turn.right_to_wrong_interval.high,
            }
            for turn in found.turns
        ],
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def turn_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What more thinking turns over, as a table's lines of :data:`TURN_COLUMNS`; percentages of samples."""
    return [
        (
            f"{turn['from']} → {turn['to']}",
            f"{turn['tokens']:,.1f}",
            _share(turn, "wrong_to_right"),
            _share(turn, "right_to_wrong"),
        )
        for turn in found["turns"]
    ]


def sentences(found: Mapping[str, Any]) -> str:
    """The area, and what was chosen where."""
    said = [f"Area under accuracy against thinking tokens: {_share(found, 'area')}."] if found["area"] else []
    if not found["chosen"]:
        return " ".join(said)
    taken = (
        f"{each['policy']}: {', '.join(f'{setting} on {items}' for setting, items in each['settings'].items())}"
        for each in found["chosen"]
    )
    return " ".join([*said, f"Settings taken, and for how many items: {'; '.join(taken)}.", CROSS_FITTED])


def _share(found: Mapping[str, Any], name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return f"{percent(found[name])} ({100 * low:.1f} – {100 * high:.1f})"
