"""How curating grows: time and memory of the step, up to a million synthetic rows.

    python benchmarks/curate.py [--sizes 10000,100000,1000000] [--json FILE]

Rows have a question of 40 words and a trace of 300, 2 KB; a tenth were cut off, a tenth repeat themselves, and a sweep
is right on a third of their questions. They go through rules for quality, difficulty by that sweep, domains by a
column, and s1's selection of three sets of 1,000; then everything is written, the page too. Each size is curated by a
process of its own. What counts is how the figures grow with the rows: linear or better. A step of this kind has no
workers, but for the model that classifies.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

VOCABULARY = 20_000
DOMAINS = 50
SETS, SIZE = 3, 1000


@dataclass(frozen=True)
class Measured:
    """One size."""

    rows: int
    file_mb: float
    kept: int
    seconds: float
    cpu_seconds: float
    before_mb: float
    """Resident before a row was read."""
    peak_mb: float


def write(path: Path, count: int) -> None:
    """As a distilling step has them."""
    rng = random.Random(0)
    words = [f"{rng.choice('bcdfgklmnprst')}{rng.choice('aeiou')}{number:x}" for number in range(VOCABULARY)]
    with path.open("w") as file:
        for number in range(count):
            trace = rng.choices(words, k=30) * 10 if number % 10 == 1 else rng.choices(words, k=300)
            row = {
                "id": f"{number:016x}",
                "question": " ".join(rng.choices(words, k=40)),
                "trace": " ".join(trace),
                "answer": f"Answer: {number}",
                "source": f"source{number % 16}",
                "subject": f"subject{rng.randrange(DOMAINS)}",
                "verdict": "correct" if number % 2 else "wrong",
                "thinking_end": "natural",
                "answer_end": "length" if number % 10 == 2 else "stop",
                "thinking_tokens": rng.randrange(100, 20_000),
            }
            file.write(json.dumps(row) + "\n")


def _sweep(path: Path, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    items = [f"{number:016x}" for number in range(count)]
    verdicts = ["correct" if number % 3 == 0 else "wrong" for number in range(count)]
    pq.write_table(pa.table({"item": items, "policy": ["auto"] * count, "verdict": verdicts}), path)


def _measure(size: int) -> Measured:
    from jobs.curate.config import CurateConfig
    from jobs.curate.run import run
    from orchestrator.job.context import StepContext, StepInput

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {}
        for step in ("traces", "sweep"):
            (folder / step / "output").mkdir(parents=True)
            inputs[step] = StepInput(step, "0", folder / step / "output")
        # In a process of its own, so that what it takes is not taken for the step's.
        subprocess.run([sys.executable, __file__, "--make", str(size), "--into", name], check=True)
        config = CurateConfig.model_validate_json(
            json.dumps(
                {
                    "data": "${traces}",
                    "quality": ["finished", {"repetition": 0.3}, {"matches": r"\[asy\]"}, "script", "s1"],
                    "difficulty": {"wrong_in": ["${sweep}"]},
                    "domains": "subject",
                    "select": {"by": "s1", "size": SIZE, "seeds": list(range(SETS))},
                }
            )
        )
        context = StepContext("benchmark", "curated", "0", folder / "step", folder / "store", inputs)
        context.folder.mkdir(parents=True)
        before = _peak_mb()
        began, cpu = time.monotonic(), time.process_time()
        run(config, context)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        kept = sum(1 for _ in (context.output / "train.jsonl").open())
        size_mb = (folder / "traces" / "output" / "train.jsonl").stat().st_size / 2**20
    return Measured(size, size_mb, kept, seconds, cpu, before, _peak_mb())


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measures each size in a process of its own, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make is not None:
        write(arguments.into / "traces" / "output" / "train.jsonl", arguments.make)
        _sweep(arguments.into / "sweep" / "output" / "samples.parquet", arguments.make)
        return
    if arguments.one is not None:
        print(json.dumps(asdict(_measure(arguments.one))))
        return
    found = []
    for size in arguments.sizes.split(","):
        said = subprocess.run([sys.executable, __file__, "--one", size], capture_output=True, text=True, check=True)
        found.append(Measured(**json.loads(said.stdout.splitlines()[-1])))
    table = Table(
        "rows", "file MB", "kept", "seconds", "CPU seconds", "µs CPU/row", "MB before", "MB at most", "bytes/row"
    )
    for each in found:
        added = (each.peak_mb - each.before_mb) * 2**20 / each.rows
        row = (each.rows, each.file_mb, each.kept, each.seconds, each.cpu_seconds, 1e6 * each.cpu_seconds / each.rows)
        table.add_row(*(f"{value:,.0f}" for value in (*row, each.before_mb, each.peak_mb, added)))
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
