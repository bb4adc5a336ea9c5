"""What a page that follows a large sweep costs the sweep's driver: CPU seconds with and without it, in one run.

    python benchmarks/live_page.py [--items 500] [--samples 64] [--windows 10] [--seconds 5] [--json FILE]

A sweep on a local cluster, whose engine says a few words at once and for nothing, so that the driver has as much to do
as it ever has. Meanwhile ``report --follow`` runs, is asked for its page every two seconds, and is stopped (SIGSTOP) in
every other window: so both have the same sweep, and the same machine. What is left at its end is left out. The driver
is the ``run`` and the process of its step; what the page's own process takes stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
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

from jobs.evaluate.engines.protocol import Chunk, EngineSpec, Request
from jobs.evaluate.engines.registry import EngineKind, Program

HERE = Path(__file__).parent
__version__ = "1"


class Instant:
    """Says a few digits whatever it is asked."""

    cache_tokens = None

    def __init__(self, words: list[int]):
        self._words = words

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        left = self._words[request.position :][: request.max_tokens]
        yield Chunk(left, "length" if len(left) == request.max_tokens else "stop")

    async def close(self) -> None:
        """Nothing to give back."""


async def start(spec: EngineSpec) -> Instant:
    """As :data:`INSTANT` names it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model)
    return Instant(tokenizer.encode("3 and 4 is 7", add_special_tokens=False))


INSTANT = EngineKind(start=start, library=__name__, on_cpus=Program(start=1, step=1e-3, sequence=1e-4))


def experiment(folder: Path, items: int, samples: int) -> Path:
    """A sweep of so many, of a model that was hardly trained."""
    site = folder / "site"
    information = site / "live_page-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: live_page\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[scaling_orchestrator.engines]\ninstant = live_page:INSTANT\n")
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
                "budgets": [4, "auto"],
                "samples": samples,
                "temperature": 0.7,
                "engine": "instant",
            },
        },
    }
    file = folder / "live.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """That they took so far."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def measure(folder: Path, file: Path, windows: int, seconds: float) -> dict[str, float]:
    """Runs the sweep, and counts, for so many windows of so many seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (folder / "site", HERE, HERE.parent)))
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
            assert run.poll() is None, (folder / "run.log").read_text()
            time.sleep(0.5)
        return _windows(folder, psutil.Process(run.pid), psutil.Process(follower.pid), address, windows, seconds)
    finally:
        follower.send_signal(signal.SIGCONT)
        follower.kill()
        follower.wait()
        run.terminate()
        run.wait()


def _windows(
    folder: Path, run: psutil.Process, follower: psutil.Process, address: str, windows: int, seconds: float
) -> dict[str, float]:
    """Every other one without the page."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    page, follows = 0.0, True
    driver = [run, *(each for each in run.children(recursive=True) if each.name() == "ray::_run_step")]
    for number in range(windows + 1):
        follower.send_signal(signal.SIGCONT if follows else signal.SIGSTOP)
        began, tokens = time.monotonic(), _done(folder)
        before, own = cpu_seconds(driver), cpu_seconds([follower])
        while (now := time.monotonic()) < began + seconds:
            if follows:
                with urllib.request.urlopen(address) as answer:
                    assert b"sweep" in answer.read()
            time.sleep(2)
        done = _done(folder)
        if done == _total(folder) or not run.is_running():
            break
        if number == 0:  # the sweep's start is in it
            continue
        found[follows].append(((cpu_seconds(driver) - before) / (now - began), (done - tokens) / (now - began)))
        page += (cpu_seconds([follower]) - own) / (now - began) if follows else 0.0
        follows = not follows
    if not found[False]:
        sys.exit("the sweep was over before two windows were: give more --samples, or fewer --seconds")
    with_page, without = ([share for share, _ in found[each]] for each in (True, False))
    return {
        "windows": len(with_page) + len(without),
        "driver_share_followed": statistics.mean(with_page),
        "driver_share_alone": statistics.mean(without),
        "driver_share_difference": statistics.mean(with_page) - statistics.mean(without),
        "tokens_per_second_followed": statistics.mean(rate for _, rate in found[True]),
        "tokens_per_second_alone": statistics.mean(rate for _, rate in found[False]),
        "page_process_share": page / len(with_page),
    }


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
    parser.add_argument("--windows", type=int, default=10, help="half of them with the page")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each")
    parser.add_argument("--json", type=Path, help="also write the figures here, by name")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="live", dir="/tmp", ignore_cleanup_errors=True) as folder:
        figures = measure(
            Path(folder), experiment(Path(folder), options.items, options.samples), options.windows, options.seconds
        )
    table = Table(title=f"a page that follows {options.items} x {options.samples}")
    table.add_column("figure")
    table.add_column("measured", justify="right")
    for name, value in figures.items():
        shown = f"{100 * value:.1f}% of a core" if "share" in name else f"{value:,.0f}"
        table.add_row(name.replace("_", " "), shown)
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
