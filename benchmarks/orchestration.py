"""What the control plane costs beside the work: per step, per plan, and in machines that wait for work.

    python benchmarks/orchestration.py [--steps 1000] [--planned 10000] [--gpus 64] [--units 32000] [--json FILE]

Needs root and iproute2, for machines that can be lost.

**Overhead per step**: an experiment of the smallest steps that there are (`letters`, one trace each) is run as a user
runs it, and as many of them are done by a plain loop in one process; what is between the two, divided by their number,
is the executor's: processes, records in the store, the tracking server's mirror. Ray's own start is not in it.

**Planning**: reading an experiment of so many steps, and looking each up in an empty store.

**Loss of a machine**: until its units decode elsewhere (``node_loss.py``).

**Utilisation**: a sweep of the s1 paper's shape (traces of 6,109 tokens in the mean, up to 32k) on 64 simulated GPUs
of one replica each. Who gets how many units when is decided by the pool's own code; time is simulated, because 64
processes on two cores would measure the cores. A replica decodes eight units at once, is heard once a second, and then
given more. Utilised is a GPU in as far as its eight places are taken, counted until 2% of all tokens are left. The
lower bound of the time is the larger of all tokens on all places and the longest trace; nothing tells beforehand which
trace that is, so a sweep that is not many times as long as it ends with a few long ones.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

from rich.console import Console
from rich.table import Table

from benchmarks.node_loss import losses
from jobs.evaluate.decode.pool import share
from jobs.evaluate.decode.replica import ANSWER_SECONDS
from jobs.evaluate.planning.lengths import SPREAD, published
from jobs.evaluate.tasks.benchmarks import BENCHMARKS
from jobs.letters.config import LettersConfig
from jobs.letters.run import run as letters
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store

CONTEXT, PLACES, TOKENS_PER_SECOND = 32_768, 8, 40.0
"""Of a simulated GPU: the most tokens of a trace, the traces that it decodes at once, and the rate of each."""
PAPER = published(BENCHMARKS["aime24"].thinking_tokens or 0)


def many(file: Path, steps: int) -> Path:
    """An experiment of so many of the smallest steps."""
    lines = [f"  step{number}: {{job: letters, train: 1, test: 1, seed: {number}}}\n" for number in range(steps)]
    file.write_text(f"name: many\nstore: {file.parent}/runs\ntracking: sqlite:///{file.parent}/mlflow.db\nsteps:\n")
    with file.open("a") as whole:
        whole.writelines(lines)
    return file


def in_a_loop(folder: Path, steps: int) -> float:
    """Seconds in which one process does the steps' work."""
    began = time.perf_counter()
    for number in range(steps):
        own = folder / f"step{number}"
        own.mkdir(parents=True)
        letters(
            LettersConfig(train=1, test=1, seed=number), StepContext("many", "step", "0" * 16, own, folder / "traces")
        )
    return time.perf_counter() - began


def run(folder: Path, steps: int) -> float:
    """Seconds that ``run`` takes, as its users run it."""
    file = many(folder / "many.yaml", steps)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    environment.pop("RAY_ADDRESS", None)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "run", str(file)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.perf_counter() - began


def overhead(steps: int) -> dict[str, float]:
    """Seconds per step beside its own work: those of a whole run less those of a run of one step."""
    with tempfile.TemporaryDirectory(prefix="steps", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("one", "many", "loop"):
            (folder / part).mkdir()
        one, whole, alone = run(folder / "one", 1), run(folder / "many", steps), in_a_loop(folder / "loop", steps)
    return {
        "steps": steps,
        "run_of_one_step_seconds": one,
        "work_seconds_per_step": alone / steps,
        "overhead_seconds_per_step": (whole - one - alone) / (steps - 1),
    }


def planning(steps: int) -> dict[str, float]:
    """Seconds to read and plan an experiment."""
    with tempfile.TemporaryDirectory(prefix="plan", dir="/tmp") as name:
        file = many(Path(name) / "many.yaml", steps)
        began = time.perf_counter()
        planned = plan(load(file), Store(Path(name) / "runs"))
        taken = time.perf_counter() - began
    assert len(planned) == steps
    return {"planned_steps": steps, "planning_seconds": taken}


@dataclass
class SimulatedReplica:
    """Decodes the units that it holds, so many at once; all in simulated seconds."""

    waiting: deque[float] = field(default_factory=deque)
    """How long each unit takes that it has no place for yet."""
    ends: list[float] = field(default_factory=list)
    """When the units that it decodes end, as a heap."""
    stretches: list[tuple[float, float]] = field(default_factory=list)
    """From when to when a place was taken."""

    @property
    def holding(self) -> int:
        return len(self.waiting) + len(self.ends)

    def fill(self, now: float) -> None:
        """Begins to decode what it has places for."""
        while self.waiting and len(self.ends) < PLACES:
            end = now + self.waiting.popleft()
            heapq.heappush(self.ends, end)
            self.stretches.append((now, end))

    def until(self, now: float) -> int:
        """How many units have ended by `now`; each place is taken by the next at once."""
        ended = 0
        while self.ends and self.ends[0] <= now:
            self.fill(heapq.heappop(self.ends))
            ended += 1
        return ended


def traces(units: int) -> list[float]:
    """Tokens of each unit's longest chain: thinking, six extensions, an answer; in an order that tells nothing."""
    spread = [math.exp(SPREAD * NormalDist().inv_cdf((number + 0.5) / units)) for number in range(units)]
    scale = PAPER.natural * units / sum(spread)
    found = [min(CONTEXT, scale * each + 6 * PAPER.extension + PAPER.answer) for each in spread]
    random.Random(0).shuffle(found)
    return found


def utilisation(gpus: int, units: int) -> dict[str, float]:
    """Of a simulated sweep: the share of places taken until 98% of its tokens are decoded, and its time."""
    tokens = traces(units)
    queue = deque(each / TOKENS_PER_SECOND for each in tokens)
    replicas = [SimulatedReplica() for _ in range(gpus)]
    heard = [(0.0, number) for number in range(gpus)]
    while heard:
        now, number = heapq.heappop(heard)
        replica = replicas[number]
        finished = replica.until(now)
        granted = share(PLACES, finished, replica.holding, len(queue), gpus)
        replica.waiting.extend(queue.popleft() for _ in range(granted))
        replica.fill(now)
        if replica.ends:
            heapq.heappush(heard, (min(now + ANSWER_SECONDS, max(replica.ends)), number))
    stretches = [stretch for replica in replicas for stretch in replica.stretches]
    wall = max(end for _, end in stretches)
    late = _until(stretches, 0.98 * sum(end - begin for begin, end in stretches), wall)
    bound = max(sum(tokens) / (gpus * PLACES), max(tokens)) / TOKENS_PER_SECOND
    return {
        "gpus": gpus,
        "units": units,
        "utilisation": _taken(stretches, late) / (late * gpus * PLACES),
        "wall_over_bound": wall / bound,
    }


def _taken(stretches: list[tuple[float, float]], until: float) -> float:
    """Seconds of places until then."""
    return sum(max(0.0, min(end, until) - begin) for begin, end in stretches)


def _until(stretches: list[tuple[float, float]], taken: float, wall: float) -> float:
    """When so many seconds of places were taken."""
    low, high = 0.0, wall
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _taken(stretches, middle) < taken else (low, middle)
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--planned", type=int, default=10_000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--units", type=int, default=32_000, help="500 items of 64 samples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    figures = losses() | planning(arguments.planned) | utilisation(arguments.gpus, arguments.units)
    figures |= overhead(arguments.steps)
    table = Table("", "measured", "must", title="The control plane")
    work = figures["work_seconds_per_step"] * 1e3
    table.add_row(
        f"overhead per step, {arguments.steps:,} steps of {work:.1f} ms",
        f"{figures['overhead_seconds_per_step'] * 1e3:.1f} ms",
        "<= 25 ms",
    )
    table.add_row(f"planning {arguments.planned:,} steps", f"{figures['planning_seconds']:.2f} s", "<= 2 s")
    for name, way in (("switched_off", "switched off"), ("cable_pulled", "with its cable pulled")):
        took = figures[f"{name}_elsewhere_seconds"]
        table.add_row(f"a machine {way}: its units decode elsewhere after", f"{took:.1f} s", "<= 10 s")
    sweep = f"{arguments.units:,} units on {arguments.gpus} simulated GPUs"
    table.add_row(f"{sweep}: utilised until the last 2%", f"{figures['utilisation']:.1%}", ">= 95%")
    table.add_row(f"{sweep}: time, of the lower bound", f"{figures['wall_over_bound']:.3f}", "<= 1.1")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
