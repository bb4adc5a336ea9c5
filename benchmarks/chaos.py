"""Kills at random moments over full runs: what is lost, what comes twice, what differs from an undisturbed run.

    python benchmarks/chaos.py --kills 50 [--minutes 60] [--json FILE] [--seed 0]

The shipped experiment, as small as it can be (letters, training in a gang of two, a sweep), runs again and again on a
local Ray cluster of its own, each time in a new store. While it runs, ``kill -9`` strikes the driver, the raylet, a
step's controller, a replica of the sweep, or a worker of training, at random moments: as far apart as an undisturbed
run is long, at most. Of the kinds that are there, it takes the one that was struck least, or the short-lived ones would
never be. A run that ends with its driver is started again at once with the same command, until everything is done. Then
the store and MLflow are compared with those of the undisturbed run:

- lost: answers, trained steps and MLflow runs that are missing;
- duplicated: those that are there twice;
- differing: answers, verdicts, losses and weights that are not the same;
- left: processes of the run that are still there two minutes after its end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
name: chaos
steps:
  letters: {job: letters, train: 3200, test: 64}
  tiny:
    job: finetune
    model: {random: qwen2, layers: 1, hidden_size: 64}
    data: ${letters}
    batch_size: 32
    resources: {workers: 2, checkpoint_every: 20, wait: 120, retries: {infrastructure: 1000}}
  sweep:
    job: evaluate
    model: ${tiny}
    engine: transformers
    dtype: float32
    tasks: ["${letters}"]
    budgets: [4, 8, 16, auto]
    extensions: {strings: [Wait, Hmm], counts: [1, 2]}
    resources: {in_flight: 4, wait: 120, retries: {infrastructure: 1000}}
"""
VICTIMS = {"raylet": "raylet/raylet", "engine": "ray::Replica", "worker": "ray::RayTrainWorker", "step": "_run_step"}
"""What their command lines contain. The driver is the process that was started."""
SHORTEST_PAUSE = 3.0
"""Seconds between two kills of one run. The longest is how long a run takes on this machine as it is now: on a busy one
a run that is struck every few seconds would not come to train or decode at all."""
GONE_WITHIN = 120.0
REACHED_WITHIN = 200.0
FINISHED_WITHIN = 900.0
"""Seconds without a kill in which a run must be over."""


@dataclass
class Totals:
    """The table."""

    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicated: int = 0
    differing: int = 0
    left: int = 0


class Run:
    """The experiment in a folder of its own, started as often as it takes, with variables of its own."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None):
        self.folder = folder
        self.starts = 0
        folder.mkdir()
        (folder / "chaos.yaml").write_text(EXPERIMENT)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "ORCHESTRATOR_", "MLFLOW_"))
        } | {"PYTHONPATH": str(ROOT), **(variables or {})}
        self._seen: set[psutil.Process] = set()
        self._driver = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        command = [sys.executable, "-m", "orchestrator", "run", "chaos.yaml"]
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def kill(self, struck: Counter[str], chance: random.Random) -> str | None:
        """Strikes one of the kinds of victims that are there; returns which, or None where there was nothing."""
        there: dict[str, list[psutil.Process]] = {"driver": [psutil.Process(self._driver.pid)]}
        for process in self._processes():
            for kind, name in VICTIMS.items():
                if name in _command(process):
                    there.setdefault(kind, []).append(process)
        kind = min(sorted(there), key=lambda kind: (struck[kind], chance.random()))
        victim = chance.choice(sorted(there[kind], key=lambda process: process.pid))
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return None
        return kind

    def ended(self) -> bool:
        """Whether everything is done. Starts the run again where it ended otherwise."""
        self._processes()
        code = self._driver.poll()
        if code is None or code == 0:
            return code == 0
        self._driver = self._start()
        return False

    def gives_up(self, seconds: float) -> int:
        """Waits until its driver ends; returns its exit status. Raises subprocess.TimeoutExpired."""
        self._processes()
        return self._driver.wait(seconds)

    def until(self, step: str, done: int) -> None:
        """Waits until so much of a step is done, in its own units. Exits where that does not come."""
        deadline = time.monotonic() + REACHED_WITHIN
        while self._done(step) < done:
            if time.monotonic() > deadline:
                sys.exit(f"{step} did not come to {done}:\n{(self.folder / 'output.txt').read_text()[-4000:]}")
            time.sleep(0.05)

    def _done(self, step: str) -> float:
        files = [*self.folder.glob(f"runs/{step}-*/progress.json")]
        return float(json.loads(files[0].read_text())["done"]) if files else 0.0

    def _processes(self) -> list[psutil.Process]:
        """Of this run's driver; remembers them."""
        try:
            found = psutil.Process(self._driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._seen.update(found)
        return found

    def left(self) -> int:
        """Processes of any of its drivers that outlive it by `GONE_WITHIN`."""
        deadline = time.monotonic() + GONE_WITHIN
        # Not psutil.wait_procs: on some kernels it fails for a process that ends in the very moment.
        while (alive := [process for process in self._seen if _runs(process)]) and time.monotonic() < deadline:
            time.sleep(0.5)
        for process in alive:
            print(f"left running: {_command(process)[:120]}", file=sys.stderr)
            process.kill()
        return len(alive)

    def results(self) -> Counter[tuple[Hashable, ...]]:
        """Everything that a run leaves and another must leave as well, piece by piece."""
        import pyarrow.parquet as pq

        found: Counter[tuple[Hashable, ...]] = Counter()
        for row in pq.read_table(self._output("sweep") / "samples.parquet").to_pylist():
            name = ("answer", row["item"], row["sample"], row["policy"])
            found[*name, json.dumps(row, sort_keys=True, default=str)] += 1
        weights = (self._output("tiny") / "model.safetensors").read_bytes()
        found["weights", "", hashlib.sha256(weights).hexdigest()] += 1
        [metrics] = self.folder.glob("runs/tiny-*/tracked/*/metrics.jsonl")
        for line in metrics.read_text().splitlines():
            record = json.loads(line)
            found["step", record["step"], record["values"]["loss"]] += 1
        found.update(self._tracked())
        return found

    def _output(self, step: str) -> Path:
        [folder] = self.folder.glob(f"runs/{step}-*/")
        return folder / "output"

    def _tracked(self) -> Iterator[tuple[Hashable, ...]]:
        """MLflow's runs, and each value of those of its metrics that are results."""
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            query = "select run_uuid, name, status from runs where lifecycle_stage = 'active'"
            names = {uuid: (name, status) for uuid, name, status in database.execute(query)}
            for name, status in names.values():
                yield "run", name, status
            query = "select run_uuid, key, step, value from metrics where key in ('accuracy', 'loss')"
            for uuid, key, step, value in database.execute(query):
                if uuid in names:
                    yield "metric", names[uuid][0], key, step, value


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def compare(expected: Counter[tuple[Hashable, ...]], got: Counter[tuple[Hashable, ...]], totals: Totals) -> None:
    """Adds what is lost, duplicated and differing in `got`. The last of a piece is its value, the rest its name."""
    before, after = _by_name(expected), _by_name(got)
    for name in before.keys() | after.keys():
        one, other = before.get(name, Counter()), after.get(name, Counter())
        totals.lost += max(0, one.total() - other.total())
        totals.duplicated += max(0, other.total() - one.total())
        totals.differing += min(one.total(), other.total()) - (one & other).total()
        if one != other:
            print(f"{name}: {dict(one)} became {dict(other)}"[:400], file=sys.stderr)


def _by_name(pieces: Counter[tuple[Hashable, ...]]) -> dict[tuple[Hashable, ...], Counter[Hashable]]:
    found: dict[tuple[Hashable, ...], Counter[Hashable]] = {}
    for (*name, value), count in pieces.items():
        found.setdefault(tuple(name), Counter())[value] += count
    return found


def undisturbed(folder: Path) -> tuple[Counter[tuple[Hashable, ...]], float]:
    """What a run leaves that nothing happens to, and the seconds that it takes."""
    began = time.monotonic()
    run = Run(folder)
    wait(run)
    seconds = time.monotonic() - began
    run.left()
    return run.results(), seconds


def wait(run: Run, until: float | None = None) -> bool:
    """Lets a run go on for so long, or to its end; returns whether that was reached. Exits where it never comes."""
    deadline = time.monotonic() + (FINISHED_WITHIN if until is None else until)
    while not run.ended():
        if time.monotonic() > deadline:
            if until is None:
                sys.exit(f"a run did not end:\n{(run.folder / 'output.txt').read_text()[-4000:]}")
            return False
        time.sleep(0.1)
    return True


def torment(
    folder: Path,
    expected: Counter[tuple[Hashable, ...]],
    kills: int,
    chance: random.Random,
    longest_pause: float,
    seconds: float = math.inf,
) -> Totals:
    """Runs the experiment until `kills` were struck or so much time has passed, and the last run to its end."""
    totals = Totals()
    deadline = time.monotonic() + seconds

    def goes_on() -> bool:
        return totals.kills.total() < kills and time.monotonic() < deadline

    while goes_on():
        run = Run(folder / f"run-{totals.runs}")
        while goes_on() and not wait(run, chance.uniform(SHORTEST_PAUSE, longest_pause)):
            struck = run.kill(totals.kills, chance)
            if struck is not None:
                totals.kills[struck] += 1
                print(f"run {totals.runs}: {struck} killed, {totals.kills.total()} of {kills}", file=sys.stderr)
        wait(run)
        totals.runs += 1
        print(f"run {totals.runs - 1} has ended", file=sys.stderr)
        totals.left += run.left()
        compare(expected, run.results(), totals)
        shutil.rmtree(run.folder)
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which nothing is struck any more")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        expected, length = undisturbed(folder / "undisturbed")
        print(f"an undisturbed run takes {length:.0f} s", file=sys.stderr)
        chance = random.Random(arguments.seed)
        totals = torment(folder, expected, arguments.kills, chance, length, 60 * arguments.minutes)
    figures: dict[str, int] = {
        "runs": totals.runs,
        "kills": totals.kills.total(),
        **{f"kills_{kind}": count for kind, count in sorted(totals.kills.items())},
        "pieces": expected.total(),
        "lost": totals.lost,
        "duplicated": totals.duplicated,
        "differing": totals.differing,
        "left": totals.left,
    }
    table = Table("", "measured", "must", title="kill -9 at random moments")
    for figure, value in figures.items():
        must = "0" if figure in ("lost", "duplicated", "differing", "left") else ""
        table.add_row(figure.replace("_", " "), f"{value:,}", must)
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if totals.lost or totals.duplicated or totals.differing or totals.left:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
