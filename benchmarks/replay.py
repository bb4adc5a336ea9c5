"""What it takes to replay stopping rules on a large sweep: time and memory, and how both grow.

    python benchmarks/replay.py --items 500 --samples 64 --probes 16

From ``probes.parquet`` to every rule's points with their intervals, paired differences and comparisons, in a process of
its own. The answers are made up; what a rule does with them is as much work as with real ones.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.samples import SCHEMA
from jobs.evaluate.stopping.study import tables
from jobs.evaluate.sweep import kinds

RULES = [
    "oracle",
    {"rule": "convergence", "agree": [2, 3]},
    {"rule": "logprob", "threshold": 0.9},
    {"rule": "entropy", "threshold": 0.9},
    {"rule": "slope", "threshold": 0.01},
    {"rule": "asc", "threshold": 0.95},
    {"rule": "esc", "window": 8},
    {"rule": "parallel", "consensus": 0.75},
    {"rule": "deepconf", "keep": 0.5, "warmup": 8},
    {"rule": "deepconf", "keep": 0.1, "by": "tail"},
]
"""Ten, with eleven settings and one that is cross-fitted."""


def main() -> None:
    """Prints a table; with ``--json`` writes the same figures by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--probes", type=int, default=16)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probes.parquet"
        budgets = [256 * (number + 1) for number in range(given.probes - 1)]
        write(path, given.items, given.samples, budgets)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        fields = {
            "model": "someone/some-model",
            "tasks": ["letters"],
            "budgets": [*budgets, "auto"],
            "samples": given.samples,
            "temperature": 1.0,
            "confidence": True,
            "engine": "transformers",
            "stopping": RULES,
        }
        config = EvaluateConfig.model_validate_json(json.dumps(fields))
        began = time.monotonic()
        text = tables(config, path, kinds.given(config)["stopping"])
        seconds = time.monotonic() - began
    size = f"{given.items} items x {given.samples} samples x {given.probes} probes x {len(RULES)} rules"
    figures = {
        "seconds": round(seconds, 2),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "peak_gib_before": round(before / 2**20, 2),
        "rows": text.count("\n| "),
    }
    print(f"{size}: {figures['seconds']} s, {figures['peak_gib']} GiB at most ({figures['peak_gib_before']} before)")
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


def write(path: Path, items: int, samples: int, budgets: list[int]) -> None:
    """Probes of traces that settle on an answer, the right one more often the easier the item; item by item."""
    rng = np.random.default_rng(0)
    columns = [*budgets, None]
    schema = pa.schema([*SCHEMA, *(pa.field(name, pa.float32()) for name in SIGNALS)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, items, 50):
            frames = [_item(rng, item, samples, columns) for item in range(start, min(start + 50, items))]
            writer.write_table(
                pa.Table.from_pandas(
                    pd.concat(frames).assign(score=None, scorer_tokens=0), schema, preserve_index=False
                )
            )


SIGNALS = ("logprob", "entropy", "confidence_lowest", "confidence_tail")


def _item(rng: np.random.Generator, item: int, samples: int, columns: list[int | None]) -> pd.DataFrame:
    probes = len(columns)
    ease = rng.random()
    end = rng.integers(1, probes + 1, samples)[:, None]
    last = np.minimum(np.arange(probes), end - 1)
    settles = rng.integers(0, probes, samples)[:, None]
    right = np.broadcast_to(rng.random((samples, 1)) < ease, (samples, probes)) & (last >= settles)
    said = np.where(right, 7, rng.integers(0, 5, (samples, probes)))
    live = (np.arange(probes) < end - 1) & (np.arange(probes) < probes - 1)
    names = ["auto" if column is None else str(column) for column in columns]
    return pd.DataFrame(
        {
            "item": f"q{item:05}",
            "sample": np.repeat(np.arange(samples, dtype=np.int32), probes),
            "policy": names * samples,
            "thinking_tokens": (256 * (last + 1)).ravel(),
            "injected_tokens": 0,
            "answer_tokens": rng.integers(20, 200, samples * probes),
            "thinking_end": np.where(live.ravel(), "forced", "natural"),
            "answer_end": "stop",
            "extensions_used": 0,
            "extensions_skipped": 0,
            "continued": False,
            "asked": pd.array(columns * samples, dtype="Int32"),
            "tries": 1,
            "answer": [f"Final Answer: {each}" for each in said.ravel()],
            "task": "letters",
            "gold": "7",
            "extracted": said.ravel().astype(str),
            "rule": "answer",
            "meaning": said.ravel().astype(str),
            "verdict": np.where(said.ravel() == 7, "correct", "wrong"),
            "logprob": np.log(rng.uniform(0.5, 1, samples * probes)),
            "entropy": -np.log(rng.uniform(0.5, 1, samples * probes)),
            "confidence_lowest": rng.uniform(1, 20, samples * probes),
            "confidence_tail": rng.uniform(1, 20, samples * probes),
        }
    )


if __name__ == "__main__":
    main()
