"""What a page that follows a large sweep costs the sweep's driver: CPU seconds with and without it, in one run.

    python benchmarks/live_page.py [--items 500] [--samples 64] [--pairs 12] [--seconds 6] [--json FILE]

On a machine where nothing else runs, three to four minutes. A sweep of five policies on a local cluster, whose engine
says a few words for nothing, at such a pace that the sweep lasts as long as is measured: 200 units a second, faster
than models decode. Meanwhile ``report --follow`` runs and is asked for its page every two seconds. Windows come in
pairs, one with the page and one in which it is stopped (SIGSTOP), in an order that is drawn: so both have the same
sweep, and the same machine. The driver is the ``run`` and the process of its step. What the page costs it is the mean
of the pairs' differences, with its 95% interval (Student's t).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from jobs.evaluate.engines.protocol import Chunk, EngineSpec, Request
from jobs.evaluate.engines.registry import EngineKind, Program

HERE = Path(__file__).parent
__version__ = "1"


BUDGETS = [1, 2, 4, 8, "auto"]
ASKED = len(BUDGETS) + 1
"""Requests of a unit: its thinking, and an answer under each policy."""
WARM_UP = 10.0
"""Seconds that are left out: the sweep's start."""
PACE = "LIVE_PAGE_SECONDS_APART"


class Paced:
    """Says a few digits whatever it is asked; answers come so far apart."""

    cache_tokens = None

    def __init__(self, words: list[int], apart: float):
        self._words = words
        self._apart = apart
        self._next = time.monotonic()

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        self._next = max(self._next + self._apart, time.monotonic() - 1)
        await asyncio.sleep(self._next - time.monotonic())
        left = self._words[request.position :][: request.max_tokens]
        yield Chunk(left, "length" if len(left) == request.max_tokens else "stop")

    async def close(self) -> None:
        """Nothing to give back."""


async def start(spec: EngineSpec) -> Paced:
    """As :data:`PACED` names it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model)
    return Paced(tokenizer.encode("3 and 4 is 7", add_special_tokens=False), float(os.environ[PACE]))


PACED = EngineKind(start=start, library=__name__, on_cpus=Program(start=1, step=1e-3, sequence=1e-4))


def experiment(folder: Path, items: int, samples: int) -> Path:
    """A sweep of so many, of a model that was hardly trained."""
    site = folder / "site"
    information = site / "live_page-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: live_page\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[scaling_orchestrator.engines]\npaced = live_page:PACED\n")
    content: dict[str, Any] = {
        "name": "live",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {
            "letters": {"job": "letters", "train": 64, "test": items},
            "model": {
                "job": "finetune",
                "model": {"random": "qwen2", "layers": 1, "hidden_size": 64},
                "data": "${letters}",
                "epochs": 1,
                "batch_size": 64,
            },
            "sweep": {
                "job": "evaluate",
                "model": "${model}",
                "tasks": ["${letters}"],
                "budgets": BUDGETS,
                "samples": samples,
                "temperature": 0.7,
                "engine": "paced",
            },
        },
    }
    file = folder / "live.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """That they took so far."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def measure(file: Path, units: int, pairs: int, seconds: float) -> dict[str, float]:
    """Runs the sweep, and counts, for so many pairs of windows of so many seconds."""
    folder = file.parent
    lasts = 1.3 * (WARM_UP + 2 * pairs * seconds)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (folder / "site", HERE, HERE.parent)))
    environment[PACE] = str(lasts / (units * ASKED))
    command = [sys.executable, "-m", "orchestrator"]
    with (folder / "run.log").open("w") as log:
        run = subprocess.Popen([*command, "run", str(file)], env=environment, cwd=folder, stdout=log, stderr=log)
    follower = subprocess.Popen(
        [*command, "report", str(file), "--follow"], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        address = follower.stdout.readline().split()[-1]
        while _done(folder) == 0:
            if run.poll() is not None:
                sys.exit((folder / "run.log").read_text())
            time.sleep(0.5)
        _window(None, psutil.Process(follower.pid), address, WARM_UP)
        driver = psutil.Process(run.pid)
        steps = [each for each in driver.children(recursive=True) if each.name() == "ray::_run_step"]
        return _pairs(folder, [driver, *steps], psutil.Process(follower.pid), address, pairs, seconds)
    finally:
        _signal(psutil.Process(follower.pid), signal.SIGCONT)
        for process in (follower, run):
            process.terminate()
            process.wait()


def _pairs(
    folder: Path, driver: Sequence[psutil.Process], follower: psutil.Process, address: str, pairs: int, seconds: float
) -> dict[str, float]:
    """One window of each with the page."""
    found: dict[bool, list[float]] = {True: [], False: []}
    page, order = [], random.Random(0)
    began, done = time.monotonic(), _done(folder)
    for _ in range(pairs):
        for follows in order.sample([True, False], 2):
            _signal(follower, signal.SIGCONT if follows else signal.SIGSTOP)
            share, own = _window(driver, follower, address if follows else None, seconds)
            found[follows].append(share)
            page += [own] if follows else []
        if _done(folder) == _total(folder):
            sys.exit("the sweep was over before all windows were: give fewer --pairs, or more --samples")
    differences = [followed - alone for followed, alone in zip(found[True], found[False], strict=True)]
    figures: dict[str, float] = {"tokens_per_second": (_done(folder) - done) / (time.monotonic() - began)}
    for name, values in {
        "driver_share_followed": found[True],
        "driver_share_alone": found[False],
        "driver_share_difference": differences,
        "page_process_share": page,
    }.items():
        figures[name], figures[f"{name}_off_by"] = with_interval(values)
    return figures


def with_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval."""
    error = statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values), float(student.ppf(0.975, len(values) - 1)) * error


def _window(
    driver: Sequence[psutil.Process] | None, follower: psutil.Process, address: str | None, seconds: float
) -> tuple[float, float]:
    """The shares of a core that the driver and the page's process took while somebody looked at `address`, if any."""
    began, before = time.monotonic(), (cpu_seconds(driver or ()), cpu_seconds([follower]))
    while time.monotonic() < began + seconds:
        if address is not None:
            with urllib.request.urlopen(address) as answer:
                assert b"sweep" in answer.read()
        time.sleep(min(2.0, max(0.0, began + seconds - time.monotonic())))
    took = time.monotonic() - began
    return (cpu_seconds(driver or ()) - before[0]) / took, (cpu_seconds([follower]) - before[1]) / took


def _signal(follower: psutil.Process, number: int) -> None:
    """To the page's process, and to those in which it grades."""
    for process in (follower, *follower.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _progress(folder: Path) -> dict[str, Any]:
    files = list(folder.glob("runs/sweep-*/progress.json"))
    return json.loads(files[0].read_text()) if files else {}


def _done(folder: Path) -> int:
    return int(_progress(folder).get("done", 0))


def _total(folder: Path) -> int:
    return int(_progress(folder).get("total", 0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=12, help="of windows: one with the page, one without")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each window")
    parser.add_argument("--json", type=Path, help="also write the figures here, by name")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="live", dir="/tmp", ignore_cleanup_errors=True) as folder:
        file = experiment(Path(folder), options.items, options.samples)
        figures = measure(file, options.items * options.samples, options.pairs, options.seconds)
    table = Table(title=f"a page that follows {options.items} x {options.samples} x {len(BUDGETS)} policies")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    for name, value in figures.items():
        if (off := figures.get(f"{name}_off_by")) is not None:
            table.add_row(name.replace("_", " "), f"{100 * value:.2f}% ± {100 * off:.2f}% of a core")
        elif not name.endswith("_off_by"):
            table.add_row(name.replace("_", " "), f"{value:,.0f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
