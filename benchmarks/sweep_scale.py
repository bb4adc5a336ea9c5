"""What a large sweep costs beside its decoding: scheduling, the scan of a resumed run, the driver's memory.

    python benchmarks/sweep_scale.py [--units 50000] [--items 500] [--samples 64] [--trace 32768] [--json FILE]
    python benchmarks/sweep_scale.py --night 5 [--replicas 8]   # trace files alone: hours on a clock that is set

A pool with one replica on a Ray cluster of its own, whose engine gives thousands of tokens at once and for nothing. So
all of the time is the system's: the units' way to the replica and back, requests, records and their files. Tokens are
random, which no compression makes smaller: the files of the long traces are as large as files get.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import numpy as np
from own_cluster import own_cluster
from rich.console import Console
from rich.table import Table

from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import ReplicaSpec, Work
from jobs.evaluate.engines.protocol import Chunk, Request, Sampling
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Forcing, Unit
from jobs.evaluate.sweep.tree import Key, Room, Tree, grow, wanted
from jobs.evaluate.traces.files import Index, read_tokens
from jobs.evaluate.traces.segments import Segment, root
from jobs.evaluate.traces.trace_writer import TraceWriter

FORCING = Forcing((1,), (2,), (2, 3), frozenset({2}), (4,), {})
ANSWER = 25
CHUNK = 4096
FIRST_WORD, VOCABULARY = 10, 152_064


class Instant:
    """Gives the tokens of a request at once, a chunk at a time; thinking and answers end where their limits are."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    @property
    def cache_tokens(self) -> int | None:
        """As many as are asked for."""
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        for left in range(request.max_tokens, 0, -CHUNK):
            words = self._random.integers(FIRST_WORD, VOCABULARY, min(left, CHUNK)).tolist()
            yield Chunk(words, "length" if left <= CHUNK else None)

    async def close(self) -> None:
        """Nothing is held."""


async def start() -> Instant:
    """For replicas."""
    return Instant()


def sweep(folder: Path, units: Sequence[Unit], tree: Tree) -> float:
    """Seconds to decode all of `units`."""
    spec = ReplicaSpec(start, (tree,), FORCING, Sampling(), 0, folder, EvaluateResources().in_flight)
    began = time.perf_counter()
    decode(map(Work, units), spec, Index(folder, print), EvaluateResources(), {"CPU": 1.0}, "scale", lambda done: None)
    return time.perf_counter() - began


def scan(folder: Path, units: Sequence[Unit], tree: Tree) -> float:
    """Seconds until a resumed run knows that nothing is left."""
    began = time.perf_counter()
    index = Index(folder, print)
    left = [
        unit for unit in units if any(True for _ in wanted(tree, unit.room, index.unit(unit.item, unit.sample).extent))
    ]
    assert not left, f"{len(left)} units were not finished"
    return time.perf_counter() - began


def read_answers(folder: Path, units: Sequence[Unit]) -> int:
    """Reads every answer, as grading does; returns their tokens."""
    index = Index(folder, print)
    rows = [row for unit in units for row in index.unit(unit.item, unit.sample).rows if row.key.kind != "thinking"]
    return sum(map(len, read_tokens(sorted(index.places(rows)))))


def driver_memory(folder: Path, items: int, samples: int, trace: int) -> float:
    """Most bytes that this process held, over the whole of a sweep with long traces."""
    room = Room(trace, ANSWER)
    units = [Unit(f"item {item}", sample, (5, 6, 7), room) for item in range(items) for sample in range(samples)]
    tree = grow(grid([None]), {})
    sweep(folder, units, tree)
    assert read_answers(folder, units) == len(units) * ANSWER
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def night(folder: Path, hours: float, replicas: int, tokens_per_second: int = 5000) -> dict[str, float]:
    """Files that replicas leave after so many hours, writes and merges as they come, and seconds to index them."""
    words = np.random.default_rng(0)
    writes = most = 0
    began = time.perf_counter()
    for replica in range(replicas):
        now = 0.0

        def clock() -> float:
            return now  # noqa: B023

        writer = TraceWriter(folder, clock=clock)
        while now < 3600 * hours:
            age = writer.due
            now += age
            tokens = words.integers(FIRST_WORD, VOCABULARY, max(1, int(age * tokens_per_second))).tolist()
            item = f"{replica}-{now:.3f}"
            writer.record(Segment(item, 0, Key((), "thinking"), 0, tuple(tokens), True, root(item, 0)))
            writer.write(writer.take())
            writes += 1
            if writer.mergeable:
                writer.merge()
            most = max(most, len(list(folder.glob("*.parquet"))))
    written = time.perf_counter() - began
    began = time.perf_counter()
    rows = Index(folder, print).size
    assert rows == writes
    return {
        "writes": writes,
        "files": len(list(folder.glob("*.parquet"))),
        "most_files": most,
        "write_and_merge_seconds": written,
        "index_seconds": time.perf_counter() - began,
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The figures of the table, by name. Memory first: what a process held at most does not sink again."""
    memory = driver_memory(folder / "long", arguments.items, arguments.samples, arguments.trace)
    units = [Unit(f"item {number}", 0, (5, 6, 7), Room(64, ANSWER)) for number in range(arguments.units)]
    tree = grow(grid([None]), {})
    seconds = sweep(folder / "many", units, tree)
    return {
        "units": arguments.units,
        "traces": arguments.items * arguments.samples,
        "trace_tokens": arguments.trace,
        "scheduling_seconds_per_unit": seconds / arguments.units,
        "resume_scan_seconds": scan(folder / "many", units, tree),
        "driver_memory_bytes": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--trace", type=int, default=32_768, help="tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--night", type=float, metavar="HOURS", help="only the trace files of so long a sweep")
    parser.add_argument("--replicas", type=int, default=8, help="in that night")
    arguments = parser.parse_args()
    if arguments.night is not None:
        with tempfile.TemporaryDirectory() as folder:
            figures = night(Path(folder), arguments.night, arguments.replicas)
        table = Table("", "measured", title=f"{arguments.night:g} hours of {arguments.replicas} replicas")
        for name, value in figures.items():
            table.add_row(name.replace("_", " "), f"{value:,.1f}" if "seconds" in name else f"{value:,}")
        Console().print(table)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(figures, indent=1))
        return
    with own_cluster() as folder:
        figures = measure(arguments, folder)
    table = Table("", "measured", title="A large sweep, beside its decoding")
    table.add_row(
        f"scheduling, per unit of {arguments.units:,}", f"{figures['scheduling_seconds_per_unit'] * 1e3:.2f} ms"
    )
    table.add_row(f"resume scan of {arguments.units:,} finished units", f"{figures['resume_scan_seconds']:.1f} s")
    traces = f"{figures['traces']:,} traces of {arguments.trace:,} tokens"
    table.add_row(f"driver's memory, {traces}", f"{figures['driver_memory_bytes'] / 2**30:.2f} GiB")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
