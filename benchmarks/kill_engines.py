"""Does a sweep come to the same when its engine is killed, again and again?

    python benchmarks/kill_engines.py --model DIR [--kills 20] [--engine transformers|vllm] [--items 200] [--json FILE]

Decodes the sweep of ``tree_equals_policies.py`` twice, with a real engine in a replica on a Ray cluster of its own:
undisturbed, and with ``kill -9`` of the engine's process at random moments, each drawn from the time that decoding
takes. Everything on disk is then compared as token ids, branch by branch and answer by answer.

Greedy, with a trained model: what decides its tokens is far above the last digits of float32, which depend on what
else is in a batch, whether anything was killed or not. (With a random model, sampled, 6 of 96 sequences of 300 tokens
differed between batches of 96 and of 7.)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
from own_cluster import own_cluster
from rich.console import Console
from rich.table import Table
from tree_equals_policies import sweep as grid

from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import ReplicaSpec, Work
from jobs.evaluate.engines.protocol import Engine
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.run import prepare
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key
from jobs.evaluate.traces.files import Index, read_tokens
from orchestrator.job.context import StepContext
from orchestrator.job.retries import Retries

IN_FLIGHT = 32
Pieces = dict[tuple[str, Key], tuple[int, ...]]


async def start(pids: Path, start_engine: Callable[[], Awaitable[Engine]]) -> Engine:
    """An engine whose process, once it can decode, leaves a file with its id."""
    engine = await start_engine()
    (pids / str(os.getpid())).touch()
    return engine


@dataclass
class Killer:
    """Kills engines at random moments, each once it can decode."""

    pids: Path
    most: int
    longest: float
    """Seconds that an engine is left alive at most."""
    killed: set[int] = field(default_factory=set)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kills until the block ends, or `most` are dead."""
        finished = threading.Event()
        thread = threading.Thread(target=self._kill, args=(finished,))
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()

    def _kill(self, finished: threading.Event) -> None:
        moments = random.Random(0)
        while len(self.killed) < self.most and not finished.wait(0.02):
            for replica in {int(file.name) for file in self.pids.iterdir()} - self.killed:
                if not finished.wait(moments.uniform(0, self.longest)):
                    with suppress(psutil.NoSuchProcess, ProcessLookupError):
                        os.kill(_engine_process(replica), signal.SIGKILL)
                        self.killed.add(replica)


def _engine_process(replica: int) -> int:
    """The process that decodes: a child of the replica's, or itself."""
    children = psutil.Process(replica).children(recursive=True)
    return next((child.pid for child in children if "EngineCore" in child.name()), replica)


def decoded(folder: Path, spec: ReplicaSpec, units: Sequence[Unit], retries: int) -> Pieces:
    """Decodes all units in `folder`; returns what is on disk then."""
    folder.mkdir()
    resources = EvaluateResources(retries=Retries(infrastructure=retries), in_flight=IN_FLIGHT)
    own = replace(spec, folder=folder)
    decode(map(Work, units), own, Index(folder, print), resources, {"CPU": 1.0}, folder.name, lambda done: None)
    index = Index(folder, print)
    found: Pieces = {}
    for unit in units:
        rows = sorted(index.unit(unit.item, unit.sample).rows, key=lambda row: row.start)
        for row, tokens in zip(rows, read_tokens(index.places(rows)), strict=True):
            found[unit.item, row.key] = found.get((unit.item, row.key), ()) + tokens
    return found


def measure(model: str, engine: str, items: int, kills: int, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    pids = folder / "pids"
    pids.mkdir()
    prepared = prepare(grid(model, engine, items), StepContext("benchmark", "sweep", "0", folder, folder / "traces"))
    units = list(prepared.units)
    spec = replace(prepared.replica, start=partial(start, pids, prepared.replica.start), in_flight=IN_FLIGHT)
    undisturbed = decoded(folder / "undisturbed", spec, units, retries=0)
    (began,) = (file.stat().st_mtime for file in pids.iterdir())
    seconds = time.time() - began
    for file in pids.iterdir():
        file.unlink()
    killer = Killer(pids, kills, longest=max(1.0, 1.5 * seconds / max(1, kills)))
    with killer.at_work():
        disturbed = decoded(folder / "disturbed", spec, units, retries=kills)
    return {
        "kills": len(killer.killed),
        "items": items,
        "pieces": len(undisturbed),
        "tokens": sum(map(len, undisturbed.values())),
        "differing_pieces": sum(undisturbed.get(key) != disturbed.get(key) for key in {*undisturbed, *disturbed}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    with own_cluster() as folder:
        figures = measure(arguments.model, arguments.engine, arguments.items, arguments.kills, folder)
    table = Table("", "measured", title=f"{arguments.items} items on {arguments.engine}")
    table.add_row("engines killed", f"{figures['kills']}")
    differing = f"{figures['differing_pieces']} of {figures['pieces']:,}"
    table.add_row("branches and answers that differ", differing)
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))
    if figures["differing_pieces"] or figures["kills"] < arguments.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
