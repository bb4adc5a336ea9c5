"""Does a sweep come to the same when its engine is killed, again and again?

    python benchmarks/kill_engines.py [--kills 20] [--engine transformers|vllm] [--units 400] [--json FILE]

Decodes the same units twice, with a real engine in a replica on a Ray cluster of its own: undisturbed, and with
``kill -9`` of the engine's process at random moments, each drawn from the time that decoding takes. Everything on disk
is then compared as token ids, branch by branch and answer by answer. Sampled with transformers, whose random numbers
are of a token's place; greedy with vLLM, whose are not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
import ray
from paper_workload import CONTEXT, FORCING, VOCABULARY, save_model
from rich.console import Console
from rich.table import Table

from jobs.evaluate import engines
from jobs.evaluate.config import EngineName
from jobs.evaluate.engines import Engine, EngineSpec, Sampling
from jobs.evaluate.policies import grid
from jobs.evaluate.pool import decode
from jobs.evaluate.prompts import Unit
from jobs.evaluate.replica import ReplicaSpec, Work
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.trace_files import Index, read_tokens
from jobs.evaluate.tree import Key, Room, grow

POLICIES = grid([16, 64, 256, None], ["Wait", ""], [1, 2])
TREE = grow(POLICIES, {string: len(ids) for string, ids in FORCING.injected.items()})
ROOM = Room(320, 16)

Pieces = dict[tuple[str, Key], tuple[int, ...]]


async def start(pids: Path, spec: EngineSpec) -> Engine:
    """An engine whose process, once it can decode, leaves a file with its id."""
    engine = await engines.start(spec)
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


def sweep(folder: Path, spec: ReplicaSpec, units: int, retries: int) -> Pieces:
    """Decodes all units in `folder`; returns what is on disk then."""
    folder.mkdir()
    work = [Work(Unit(f"item {number}", 0, (20, 21, 22 + number), ROOM)) for number in range(units)]
    resources = EvaluateResources(retries=retries, in_flight=spec.in_flight)
    own = replace(spec, folder=folder)
    decode(work, own, Index(folder, print), resources, {"CPU": 1.0}, folder.name, lambda done: None)
    index = Index(folder, print)
    found: Pieces = {}
    for unit in (one.unit for one in work):
        rows = sorted(index.unit(unit.item, 0).rows, key=lambda row: row.start)
        for row, tokens in zip(rows, read_tokens(index.places(rows)), strict=True):
            found[unit.item, row.key] = found.get((unit.item, row.key), ()) + tokens
    return found


def measure(engine: EngineName, units: int, kills: int, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    pids = folder / "pids"
    pids.mkdir()
    model = save_model(folder / "model")
    start_engine = partial(
        start, pids, EngineSpec(engine, str(model), None, "float32", CONTEXT, VOCABULARY, gpus=0, cpus=1)
    )
    sampling = Sampling(1.0 if engine == "transformers" else 0.0)
    spec = ReplicaSpec(start_engine, (TREE,), FORCING, sampling, 0, folder, in_flight=32)
    undisturbed = sweep(folder / "undisturbed", spec, units, retries=0)
    (began,) = (file.stat().st_mtime for file in pids.iterdir())
    seconds = time.time() - began
    for file in pids.iterdir():
        file.unlink()
    killer = Killer(pids, kills, longest=max(1.0, 1.5 * seconds / max(1, kills)))
    with killer.at_work():
        disturbed = sweep(folder / "disturbed", spec, units, retries=kills)
    return {
        "kills": len(killer.killed),
        "units": units,
        "pieces": len(undisturbed),
        "tokens": sum(map(len, undisturbed.values())),
        "differing_pieces": sum(undisturbed.get(key) != disturbed.get(key) for key in {*undisturbed, *disturbed}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--units", type=int, default=400)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    with tempfile.TemporaryDirectory(prefix="kill", dir="/tmp") as temporary:
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=f"{temporary}/ray",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}},
        )
        try:
            figures = measure(arguments.engine, arguments.units, arguments.kills, Path(temporary))
        finally:
            ray.shutdown()
    table = Table("", "measured", title=f"{arguments.units} units on {arguments.engine}")
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
