"""What a sweep's numbers cost: from its samples to curves, votes of k samples, all pairs of points, methods, frontiers.

    python benchmarks/sweep_statistics.py [--items 30] [--samples 64] [--policies 40] [--json FILE]

Samples are simulated: budgets and extensions of one model on one task, whose accuracies and lengths grow with thinking.
Nothing else of a sweep is run; what is timed is `jobs.evaluate.publish.results`, and, by themselves, its comparisons
and what the command `frontier` does: reading, majority, weighted and best of k by length, costs, and the frontiers.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.publish import results
from jobs.evaluate.stats.comparisons import compare
from jobs.evaluate.stats.curves import NATURAL_END
from jobs.evaluate.stats.frontier import frontiers
from jobs.evaluate.stats.options import options
from jobs.evaluate.stats.outcomes import read
from jobs.evaluate.stats.votes import spelled

STRINGS = ("Wait", "Hmm", "Alternatively", "")


def sweep(policies: int, samples: int) -> EvaluateConfig:
    """A sweep with so many policies: eight budgets, and each string as often as that leaves room for."""
    budgets = [2**power for power in range(8, 15)]
    counts = -(-(policies - len(budgets) - 1) // len(STRINGS))
    strings = {"strings": list(STRINGS), "counts": list(range(1, counts + 1))}
    fields = {
        "model": "a/model",
        "tasks": ["letters"],
        "budgets": [*budgets, "auto"],
        "extensions": strings,
        "samples": samples,
        "temperature": 1.0 if samples > 1 else 0.0,
    }
    return EvaluateConfig.model_validate_json(json.dumps(fields))


def simulate(config: EvaluateConfig, items: int, path: Path) -> None:
    """Writes ``samples.parquet``: a row per item, sample and policy, wrong answers from each item's own few."""
    rng = np.random.default_rng(0)
    cells, names = items * config.samples, np.array([f"item{number}" for number in range(items)])
    ease = np.repeat(rng.normal(0, 1, items), config.samples)
    columns: dict[str, list[np.ndarray]] = {}
    for place, policy in enumerate(config.policies):
        correct = rng.random(cells) < 1 / (1 + np.exp(-ease - place / len(config.policies)))
        wrong = np.char.add("", rng.geometric(0.4, cells).astype(str))
        forced = policy.route.budget is not None
        rows = {
            "task": np.full(cells, "letters"),
            "item": np.repeat(names, config.samples),
            "policy": np.full(cells, policy.name),
            "verdict": np.where(correct, "correct", "wrong"),
            "thinking_tokens": rng.poisson(policy.route.budget or 2000 * (1 + policy.count), cells),
            "injected_tokens": np.full(cells, policy.count),
            "answer_tokens": np.full(cells, 100),
            "thinking_end": np.full(cells, "forced" if forced else "natural"),
            "answer_end": np.full(cells, "stop"),
            "extracted": np.where(correct, "0", wrong),
            "rule": np.full(cells, "boxed"),
        }
        for name, values in rows.items():
            columns.setdefault(name, []).append(values)
    pq.write_table(pa.table({name: np.concatenate(values) for name, values in columns.items()}), path)


def measure(items: int, samples: int, policies: int, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    config, path = sweep(policies, samples), folder / "samples.parquet"
    simulate(config, items, path)
    began = time.perf_counter()
    found = results(config, path)
    seconds = time.perf_counter() - began
    names = [policy.name for policy in config.policies]
    outcomes = read(path, names)
    began = time.perf_counter()
    compare(outcomes, NATURAL_END.name)
    compared = time.perf_counter() - began
    began = time.perf_counter()
    (task,) = read(path, names, ["length"])
    was_read = time.perf_counter()
    votes = spelled(("majority", "weighted", "best"), ("length",))
    found_options = options(task, config.policies, votes, "sweep", usd_per_token=1e-6)
    voted = time.perf_counter()
    frontiers(found_options, seed=0)
    marked = time.perf_counter()
    return {
        "items": items,
        "samples": samples,
        "policies": len(names),
        "comparisons": len(found.comparisons),
        "seconds": seconds,
        "comparisons_seconds": compared,
        "options": len(found_options.options),
        "votes_seconds": voted - was_read,
        "frontier_seconds": marked - began,
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=30)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--policies", type=int, default=40)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="statistics") as folder:
        figures = measure(arguments.items, arguments.samples, arguments.policies, Path(folder))
    size = f"{figures['items']} items × {figures['samples']} samples × {figures['policies']} policies"
    table = Table("", "measured", title=f"A sweep's numbers, {size}")
    table.add_row("from samples to all of them", f"{figures['seconds']:.1f} s")
    table.add_row(f"of which {figures['comparisons']:,} comparisons", f"{figures['comparisons_seconds']:.1f} s")
    table.add_row(f"the frontiers of {figures['options']:,} options", f"{figures['frontier_seconds']:.1f} s")
    table.add_row("of which their votes", f"{figures['votes_seconds']:.1f} s")
    table.add_row("memory at its peak", f"{figures['peak_mebibytes']:,.0f} MiB")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
