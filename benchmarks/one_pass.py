"""What one pass over the tree saves on a sweep of the paper's shape, beside what its lengths allow.

    python benchmarks/one_pass.py [--items 300] [--cpus 1] [--json FILE]

The tree against what the paper's harness does, written fairly: each policy on its own, all items in one batch, a
barrier after every round, prefix caching on. Both decode the workload of ``paper_workload.py`` on one vLLM engine with
a small model, on the same items, in turns, each beginning with an empty prefix cache. Right after each tree comes as
plain a batch as there is: as many tokens as the tree's, in requests of one length, all at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from paper_workload import (
    ANSWER,
    CONTEXT,
    FORCING,
    POLICIES,
    SEED,
    VOCABULARY,
    Script,
    Scripted,
    arithmetic,
    save_model,
    script,
)
from rich.console import Console
from rich.table import Table

from jobs.evaluate.decode.admission import Admission
from jobs.evaluate.decode.replica import Work
from jobs.evaluate.decode.walker import FORK, Walker, stream_seed
from jobs.evaluate.engines.protocol import EngineSpec, Request, Sampling
from jobs.evaluate.engines.vllm import VllmEngine, start
from jobs.evaluate.resources import EvaluateResources
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, grow
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment

IN_FLIGHT = EvaluateResources().in_flight
SMALL_CACHE = 8
"""Of the longest sequences: what a cache of 32k-token sequences holds on two 80 GB cards beside a 32B model."""
ADDED = Budget(96)
TURNS = 4
"""Trees, each followed by a plain batch and its share of the policies: one of either tells a machine's mood."""


@dataclass
class Measured:
    """Passes of one kind."""

    seconds: float = 0
    tokens: int = 0
    own_seconds: float = 0
    """CPU time of this process: of the walker and of vLLM's client, while the engine has processes of its own."""

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.seconds + other.seconds, self.tokens + other.tokens, self.own_seconds + other.own_seconds)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


async def tree_pass(engine: Scripted, work: Iterable[Work], policies: Sequence[Policy], kept: list[Segment]) -> None:
    """Decodes what `work` lacks of the tree, as a replica does, and adds it to `kept`."""
    tree = grow(policies, {string: len(ids) for string, ids in FORCING.injected.items()})
    walker = Walker(engine, tree, FORCING, Sampling(), SEED, kept.append)
    admission = Admission(engine.cache_tokens, IN_FLIGHT)

    async def walk(one: Work) -> None:
        async with admission.turn(one.longest(tree, FORCING)) as place:
            trace = one.trace(FORCING)
            place.size = lambda: len(one.unit.prompt) + trace.thinking_tokens
            await walker.walk(one.unit, trace)

    await asyncio.gather(*map(walk, work))


async def batch(engine: Scripted, requests: Iterable[Request]) -> list[tuple[list[int], bool]]:
    """Decodes `requests` together; returns, once all are done, their tokens and whether they ended by themselves."""

    async def one(request: Request) -> tuple[list[int], bool]:
        decoded: list[int] = []
        ended = False
        async for tokens, end, *_ in engine.stream(request):
            decoded += tokens
            ended = end == "stop"
        return decoded, ended

    return await asyncio.gather(*map(one, requests))


async def by_itself(engine: Scripted, policy: Policy, units: Sequence[Unit]) -> None:
    """Decodes `policy` as the paper's harness does: rounds of thinking, then the answers."""
    thinking: dict[Unit, list[int]] = {unit: [] for unit in units}
    path: tuple[str, ...] = ()
    ended: set[Unit] = set()
    active = list(units)
    while active:
        requests = [
            Request(
                prompt=(*unit.prompt, *thinking[unit]),
                max_tokens=_cap(policy, unit) - len(thinking[unit]),
                stop=FORCING.thinking_stops,
                forbid_stop_first=bool(path),
                seed=stream_seed(SEED, unit, Key(path, "thinking")),
            )
            for unit in active
        ]
        going_on = []
        for unit, (tokens, natural) in zip(active, await batch(engine, requests), strict=True):
            thinking[unit] += tokens
            if natural and len(path) < policy.count:
                going_on.append(unit)
            elif natural:
                ended.add(unit)
        string = (*policy.route.strings, "")[len(path)]
        added = FORCING.injected[string]
        active = [unit for unit in going_on if len(thinking[unit]) + len(added) < _cap(policy, unit)]
        ended |= set(going_on) - set(active)
        for unit in active:
            thinking[unit] += added
        path = (*path, string)
    closed = [
        (*unit.prompt, *tokens, *FORCING.closing(None if unit in ended else FINAL_ANSWER, tokens[-1]))
        for unit, tokens in thinking.items()
    ]
    await batch(engine, (Request(prompt, ANSWER, FORCING.end_of_turn) for prompt in closed))


def _cap(policy: Policy, unit: Unit) -> int:
    return min(policy.route.budget or unit.room.thinking, unit.room.thinking)


async def plain(engine: Scripted, units: Sequence[Unit], tokens: int) -> None:
    """Decodes `tokens` in requests of one length."""
    await batch(engine, (Request(unit.prompt, tokens // len(units), ()) for unit in units))


class Bench:
    """One engine, and what was measured on it."""

    def __init__(self, engine: VllmEngine, workload: Script, policies: Sequence[Policy] = POLICIES):
        self.engine = engine
        self.tree_of = policies
        self.scripted = Scripted(engine, workload.ends())
        self.units = workload.units

    async def tree(self) -> tuple[Measured, list[Segment]]:
        kept: list[Segment] = []
        return await self._measured(tree_pass(self.scripted, map(Work, self.units), self.tree_of, kept)), kept

    async def policies(self, policies: Iterable[Policy]) -> Measured:
        measured = Measured()
        for policy in policies:
            measured += await self._measured(by_itself(self.scripted, policy, self.units), forget=not measured.tokens)
        return measured

    async def plain(self, tokens: int) -> Measured:
        return await self._measured(plain(self.scripted, self.units, tokens))

    async def _measured(self, work: Awaitable[None], forget: bool = True) -> Measured:
        """One pass, beginning with an empty cache unless it is to `forget` nothing."""
        if forget:
            await self.engine.forget()
        began, own, before = time.perf_counter(), time.process_time(), self.scripted.decoded
        await work
        return Measured(time.perf_counter() - began, self.scripted.decoded - before, time.process_time() - own)


async def measure(spec: EngineSpec, items: int, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    engine = await start(spec)
    try:
        return await measure_on(engine, items, folder)
    finally:
        await engine.close()


async def measure_on(
    engine: VllmEngine, items: int, folder: Path, policies: Sequence[Policy] = POLICIES
) -> dict[str, float]:
    """The figures of the table, by name, on an engine that is there."""
    workload = script(items)
    allowed_alone, allowed_tree = arithmetic(workload, policies)
    bench = Bench(engine, workload, policies)
    await bench.tree()  # what is slow the first time, kernels compiled and memory touched, is nobody's
    trees, plains, alone = [], [], Measured()
    for turn in range(TURNS):
        tree, kept = await bench.tree()
        trees.append(tree)
        plains.append(await bench.plain(tree.tokens))
        alone += await bench.policies(policies[turn::TURNS])
    cached = _cached(engine, FORK)
    write(folder, kept)
    added: list[Segment] = []
    await tree_pass(bench.scripted, _known(folder, workload.units), (*policies, ADDED), added)
    tree_seconds = fmean(tree.seconds for tree in trees)
    return {
        "items": items,
        "policies": len(policies),
        "tree_tokens": trees[0].tokens,
        "policies_tokens": alone.tokens,
        "tree_seconds": tree_seconds,
        "policies_seconds": alone.seconds,
        "plain_tokens_per_second": fmean(plain.rate for plain in plains),
        "tree_tokens_per_second": trees[0].tokens / tree_seconds,
        "plain_own_seconds": fmean(plain.own_seconds for plain in plains),
        "tree_own_seconds": fmean(tree.own_seconds for tree in trees),
        "decoded_ratio": alone.tokens / trees[0].tokens,
        "decoded_ratio_allowed": allowed_alone / allowed_tree,
        "wall_ratio": alone.seconds / tree_seconds,
        "saturation": trees[0].tokens / tree_seconds / fmean(plain.rate for plain in plains),
        "added_budget_thinking_tokens": sum(len(one.tokens) for one in added if one.key.kind == "thinking"),
        "added_budget_answer_tokens": sum(len(one.tokens) for one in added if one.key.kind != "thinking"),
        "cached_at_fork": cached,
    }


async def measure_small_cache(spec: EngineSpec, items: int) -> dict[str, float]:
    """What forks find when the cache holds few sequences."""
    engine = await start(spec, num_gpu_blocks_override=SMALL_CACHE * CONTEXT // 32 + 1)
    try:
        seconds, _ = await Bench(engine, script(items)).tree()
        return {"cached_at_fork_small_cache": _cached(engine, FORK), "small_cache_seconds": seconds.seconds}
    finally:
        await engine.close()


def _known(folder: Path, units: Iterable[Unit]) -> Iterable[Work]:
    """The units with what is on disk of them."""
    index = Index(folder, print)
    for unit in units:
        rows = index.unit(unit.item, unit.sample).rows
        yield Work(unit, tuple(rows), tuple(index.places(rows)))


def _cached(engine: VllmEngine, priority: int) -> float:
    use = engine.cache_use[priority]
    return use.cached / use.asked


def show(figures: dict[str, float]) -> None:
    """Prints the table."""
    table = Table(title=f"{figures['policies']} policies on {figures['items']} items, one vLLM engine")
    for column in ("", "one by one", "tree", "ratio", "allowed, aim"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row(
        "decoded tokens",
        f"{figures['policies_tokens']:,}",
        f"{figures['tree_tokens']:,}",
        f"{figures['decoded_ratio']:.3f}",
        f"{figures['decoded_ratio_allowed']:.3f}",
    )
    seconds = (f"{figures[name]:.1f}" for name in ("policies_seconds", "tree_seconds"))
    table.add_row("seconds", *seconds, f"{figures['wall_ratio']:.2f}", "5")
    rates = (f"{figures[name]:,.0f}" for name in ("plain_tokens_per_second", "tree_tokens_per_second"))
    table.add_row("tokens/s, plain and tree", *rates, f"{figures['saturation']:.2f}", "0.95")
    own = (f"{figures[name]:.1f}" for name in ("plain_own_seconds", "tree_own_seconds"))
    table.add_row("of it outside the engine, CPU seconds", *own, "", "")
    table.add_row("thinking of a budget added", "", f"{figures['added_budget_thinking_tokens']:,}", "", "0")
    for name, cache in (("cached_at_fork", "forks"), ("cached_at_fork_small_cache", f"cache of {SMALL_CACHE}")):
        table.add_row(f"found in cache, {cache}", "", f"{figures[name]:.1%}", "", "")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--cpus", type=int, default=1, help="threads of the engine; the walker needs a core too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        model = save_model(Path(temporary) / "model")
        spec = EngineSpec("vllm", str(model), None, "float32", CONTEXT, VOCABULARY, gpus=0, cpus=arguments.cpus)
        figures = asyncio.run(measure(spec, arguments.items, Path(temporary) / "traces"))
        figures |= asyncio.run(measure_small_cache(spec, arguments.items))
    show(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
