"""What a first run costs before it trains and decodes: cluster, job, workers, imports.

    python benchmarks/first_run.py [--against CHECKOUT] [--rounds 3] [--json FILE]

``make sweep`` of the shipped example with next to nothing to do (64 traces, one short budget, four questions): planned,
submitted to a head of its own, trained by two workers, swept, its report and curves written, to an empty store each
time. With ``--against``, another checkout does the same in turns; in each, ``make install`` comes first. Seconds of the
clock, and of CPU of the whole machine, which therefore must do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import yaml

HERE = Path(__file__).resolve().parents[1]


def first_run(checkout: Path) -> tuple[float, float]:
    """Seconds, and CPU seconds of the machine. Raises CalledProcessError where the run failed."""
    example = yaml.safe_load((checkout / "experiments" / "scaling_sweep.yaml").read_text())
    example["steps"]["letters"].update(train=64, test=4)
    example["steps"]["sweep"].update(budgets=[4], extensions={"strings": ["Wait"], "counts": [1]})
    dropped = ("RAY_", "MLFLOW_", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    with tempfile.TemporaryDirectory() as folder:
        store, file = Path(folder) / "runs", Path(folder) / "first.yaml"
        environment |= {"ORCHESTRATOR_STORE": str(store), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        file.write_text(f"#!/usr/bin/env -S python -m orchestrator run\n{yaml.safe_dump(example, sort_keys=False)}")
        file.chmod(0o755)
        began, busy = time.monotonic(), _busy()
        command = ["make", "sweep", f"EXPERIMENT={file}"]
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
        taken = time.monotonic() - began, _busy() - busy
        assert list(store.glob("reports/*/report.html")), "the run left no report"
        return taken


def _busy() -> float:
    spent = psutil.cpu_times()
    return float(spent.user + spent.system + spent.nice)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    checkouts = [HERE] if asked.against is None else [HERE, asked.against.resolve()]
    taken: dict[Path, list[tuple[float, float]]] = {each: [] for each in checkouts}
    for number in range(asked.rounds):
        for each in checkouts if number % 2 == 0 else reversed(checkouts):
            taken[each].append(first_run(each))
            print(f"{each}: {taken[each][-1][0]:.1f} s, {taken[each][-1][1]:.1f} CPU s", flush=True)
    medians = [[statistics.median(column) for column in zip(*taken[each], strict=True)] for each in checkouts]
    for each, (clock, cpu) in zip(checkouts, medians, strict=True):
        print(f"median of {asked.rounds}: {each}: {clock:.1f} s, {cpu:.1f} CPU s")
    if len(medians) == 2:
        clock, cpu = (ours / theirs for ours, theirs in zip(*medians, strict=True))
        print(f"ratio: {clock:.2f} of the clock, {cpu:.2f} of the CPU")
    if asked.json:
        asked.json.write_text(json.dumps({str(each): runs for each, runs in taken.items()}, indent=1))


if __name__ == "__main__":
    main()
