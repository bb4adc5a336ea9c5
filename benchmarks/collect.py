"""How collecting questions grows: time, the controller's memory and a worker's, up to a million synthetic questions.

    python benchmarks/collect.py [--sizes 62500,250000,1000000] [--json FILE]

Questions are of random words, 40 in the mean, a tenth of them nearly another one and a hundredth a test's. Each size
is collected by a process of its own, on a local Ray with as many CPUs as there are. What counts is how the figures grow
with the questions: linear or better.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

TESTS = 500
VOCABULARY = 20_000
EVERY = 0.2
"""Seconds between looks at the workers' memory."""


@dataclass(frozen=True)
class Measured:
    """One size."""

    questions: int
    kept: int
    seconds: float
    controller_mb: float
    worker_mb: float
    """Of the largest worker, without the object store that all share."""


def questions(count: int, seed: int) -> Iterator[list[str]]:
    """The words of `count` questions."""
    rng = random.Random(seed)
    words = [f"{rng.choice('bcdfgklmnprst')}{rng.choice('aeiou')}{number:x}" for number in range(VOCABULARY)]
    before: list[str] = []
    for _ in range(count):
        if before and rng.random() < 0.1:
            own = list(before)
            own[rng.randrange(len(own))] = rng.choice(words)
        else:
            own = rng.choices(words, k=rng.randint(20, 60))
        yield own
        before = own


def write(path: Path, rows: Iterator[list[str]]) -> None:
    """As a source has them."""
    with path.open("w") as file:
        for number, own in enumerate(rows):
            file.write(json.dumps({"id": str(number), "question": " ".join(own), "answer": "1"}) + "\n")


def _measure(size: int) -> Measured:
    import ray

    from jobs.collect.config import CollectConfig
    from jobs.collect.run import run
    from orchestrator.job.context import StepContext

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = list(questions(TESTS, seed=1))
        write(folder / "tests.jsonl", iter(tests))
        rng = random.Random(2)
        planted = (rng.choice(tests) if rng.random() < 0.01 else own for own in questions(size, seed=3))
        write(folder / "questions.jsonl", planted)
        config = CollectConfig.model_validate(
            {
                "sources": ({"name": "q", "path": str(folder / "questions.jsonl"), "type": "text"},),
                "decontaminate": {"against": ({"name": "t", "path": str(folder / "tests.jsonl"), "type": "text"},)},
            }
        )
        context = StepContext("benchmark", "questions", "0", folder / "step", folder / "traces")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        most, done = [0.0], threading.Event()
        watching = threading.Thread(target=_watch, args=(most, done))
        watching.start()
        began = time.monotonic()
        run(config, context)
        seconds = time.monotonic() - began
        done.set()
        watching.join()
        ray.shutdown()
        kept = sum(1 for _ in (context.output / "test.jsonl").open())
    here = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(size, kept, seconds, here, most[0])


def _watch(most: list[float], done: threading.Event) -> None:
    """The largest unshared memory of a Ray worker below this process, in MB."""
    me = psutil.Process(os.getpid())
    while not done.wait(EVERY):
        for process in me.children(recursive=True):
            try:
                if "ray::" in " ".join(process.cmdline()):
                    memory = process.memory_info()
                    most[0] = max(most[0], (memory.rss - memory.shared) / 2**20)
            except psutil.Error:
                continue


def main() -> None:
    """Measures each size in a process of its own, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="62500,250000,1000000")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(asdict(_measure(arguments.one))))
        return
    found = []
    for size in arguments.sizes.split(","):
        said = subprocess.run([sys.executable, __file__, "--one", size], capture_output=True, text=True, check=True)
        found.append(Measured(**json.loads(said.stdout.splitlines()[-1])))
    table = Table("questions", "kept", "seconds", "questions/s", "controller MB", "worker MB")
    for each in found:
        rate = each.questions / each.seconds
        row = (each.questions, each.kept, each.seconds, rate, each.controller_mb, each.worker_mb)
        table.add_row(*(f"{value:,.0f}" for value in row))
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
