"""Does one pass over the tree give the answers of running each policy alone, and what does it save?

    python benchmarks/tree_equals_policies.py --model DIR [--engine transformers|vllm] [--items 200] [--json FILE]

Decodes 30 policies (six budgets; four strings at three counts, within 24 tokens and within the context) on held-out
items of the letters task: first the tree, then one policy after the other, all on the same engine, greedy, in float32.
Nothing is graded: answers are compared as token ids.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.replica import ReplicaSpec
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Engine
from jobs.evaluate.sweep.grown import branches_of
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Leaf, Tree, grow, leaf
from jobs.evaluate.traces.segments import Segment, Trace
from orchestrator.job.context import StepContext


@dataclass
class Pass:
    """What one pass over all items took, and gave."""

    seconds: float
    tokens: int
    leaves: dict[tuple[str, Policy], tuple[Leaf, tuple[int, ...]]]


def sweep(model: str, engine: str, items: int) -> EvaluateConfig:
    """The grid that is measured."""
    fields: dict[str, Any] = {
        "model": str(Path(model).resolve()),
        "tasks": [{"name": "letters", "items": items}],
        "budgets": [1, 4, 8, 16, 32, "auto"],
        "extensions": {
            "strings": ["Wait", "Hmm", "Alternatively", ""],
            "counts": [1, 2, 4],
            "budgets": [24, "auto"],
        },
        "engine": engine,
        "dtype": "float32",
    }
    return EvaluateConfig.model_validate_json(json.dumps(fields))


async def decode(engine: Engine, spec: ReplicaSpec, units: Sequence[Unit], policies: Sequence[Policy]) -> Pass:
    """One pass over all units with the tree of `policies`."""
    tree: Tree = grow(policies, branches_of(spec.trees[0]).injected)
    kept: list[Segment] = []
    walker = Walker(engine, tree, spec.forcing, spec.sampling, spec.seed, kept.append)
    at_once = asyncio.Semaphore(spec.in_flight)

    async def walk(unit: Unit) -> Trace:
        trace = Trace(unit, spec.forcing)
        async with at_once:
            await walker.walk(unit, trace)
        return trace

    began = time.perf_counter()
    traces = await asyncio.gather(*map(walk, units))
    seconds = time.perf_counter() - began
    leaves = {}
    for unit, trace in zip(units, traces, strict=True):
        for policy in policies:
            end = leaf(tree, policy, unit.room, trace.extent)
            answer = () if end.answer is None else tuple(trace.tokens(end.answer))
            leaves[unit.item, policy] = end._replace(answer=None), answer
    return Pass(seconds, sum(len(segment.tokens) for segment in kept), leaves)


async def measure(config: EvaluateConfig, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    from jobs.evaluate.run import prepare  # needs Ray; what is above does not

    prepared = prepare(config, StepContext("benchmark", "sweep", "0", folder, folder / "traces"))
    spec, units = prepared.replica, list(prepared.units)
    engine = await spec.start()
    try:
        return await compare(engine, spec, units, config.policies)
    finally:
        await engine.close()


async def compare(
    engine: Engine, spec: ReplicaSpec, units: Sequence[Unit], policies: Sequence[Policy]
) -> dict[str, float]:
    """The figures of the table, by name, on an engine that is there."""
    await decode(engine, spec, units[:8], policies[:1])  # what is slow the first time is nobody's
    tree = await decode(engine, spec, units, policies)
    alone = [await decode(engine, spec, units, [policy]) for policy in policies]
    expected = {key: value for one in alone for key, value in one.leaves.items()}
    tokens, seconds = sum(one.tokens for one in alone), sum(one.seconds for one in alone)
    return {
        "items": len(units),
        "policies": len(policies),
        "answers": len(expected),
        "differing_answers": sum(tree.leaves[key] != value for key, value in expected.items()),
        "tree_tokens": tree.tokens,
        "policies_tokens": tokens,
        "decoded_ratio": tokens / tree.tokens,
        "tree_seconds": tree.seconds,
        "policies_seconds": seconds,
        "wall_ratio": seconds / tree.seconds,
    }


@click.command(help=__doc__)
@click.option("--model", required=True, help="Folder of the model.")
@click.option("--engine", type=click.Choice(["transformers", "vllm"]), default="transformers")
@click.option("--items", type=click.IntRange(1), default=200)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures here."
)
def main(model: str, engine: str, items: int, json_file: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(sweep(model, engine, items), Path(folder)))
    table = Table(title=f"{figures['policies']} policies on {figures['items']} items, {engine}")
    for column in ("", "decoded tokens", "seconds", "answers that differ"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("policies alone", f"{figures['policies_tokens']:,}", f"{figures['policies_seconds']:.1f}", "")
    differing = f"{figures['differing_answers']} of {figures['answers']}"
    table.add_row("one tree", f"{figures['tree_tokens']:,}", f"{figures['tree_seconds']:.1f}", differing)
    table.add_row("ratio", f"{figures['decoded_ratio']:.2f}", f"{figures['wall_ratio']:.2f}", "")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1))
    if figures["differing_answers"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
