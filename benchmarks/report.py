"""What a report on a large sweep takes: seconds, memory, and the size of its page.

    python benchmarks/report.py --model runs/tiny-*/output [--items 500] [--samples 64] [--trace 32768] [--json FILE]

Every sample has its rows and verdicts; traces of full length are there for the first sample of 160 items, more
than a page has room for. They are of random letters, which pack worse than words do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from jobs.evaluate import report
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Chunk, Request
from jobs.evaluate.publish import publish
from jobs.evaluate.run import Sweep, prepare
from jobs.evaluate.samples import SCHEMA
from jobs.evaluate.sweep.grown import branches_of
from jobs.evaluate.sweep.ledger import Ledger
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.traces.files import write
from jobs.evaluate.traces.segments import Segment, Trace
from orchestrator.job.context import StepContext
from orchestrator.job.record import FinishedStep, ReportRequest

TRACED = 160
ANSWER = 400
ROOM = 4096
"""Of the context, for prompt, delimiters and answer."""


@dataclass(frozen=True)
class Instant:
    """Thinks `trace` letters, half of them before it would end by itself, at once."""

    letters: list[int]
    trace: int

    @property
    def cache_tokens(self) -> int | None:
        """As many as are asked for."""
        return None

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`."""
        draw = random.Random(request.seed)
        wanted = self.trace // 2 if len(request.stop) > 1 else ANSWER // 2
        tokens = draw.choices(self.letters, k=min(wanted, request.max_tokens))
        yield Chunk(tokens, "stop" if len(tokens) < request.max_tokens else "length")

    async def close(self) -> None:
        """Nothing is held."""


def config(arguments: argparse.Namespace, folder: Path) -> EvaluateConfig:
    """Fourteen policies; the model is given, with a context for traces of that length."""
    model = shutil.copytree(arguments.model, folder / "model")
    settings = json.loads((model / "config.json").read_text())
    context = arguments.trace + ROOM
    (model / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": context}))
    questions = folder / "questions.jsonl"
    lines = [
        {"id": f"item-{number}", "question": f"What is {number}?", "answer": "1"} for number in range(arguments.items)
    ]
    questions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    fields = {
        "model": str(model),
        "tasks": [{"name": "sums", "path": str(questions)}],
        "budgets": [512, 1024, 2048, 4096, 8192, "auto"],
        "extensions": {"strings": ["Wait", "Hmm"], "counts": [1, 2, 4, 6]},
        "samples": arguments.samples,
        "temperature": 1.0,
        "max_answer_tokens": ANSWER,
    }
    return EvaluateConfig.model_validate_json(json.dumps(fields))


async def decode(sweep: Sweep, engine: Instant) -> None:
    """Traces of the first sample of the first items."""
    replica = sweep.replica
    segments: list[Segment] = []
    walker = Walker(engine, branches_of(replica.trees[0]), replica.forcing, replica.sampling, 0, segments.append)
    for question in sweep.questions[:TRACED]:
        await walker.walk(question.units[0], Trace(question.units[0], replica.forcing))
    write(sweep.folder, segments)


def write_rows(settings: EvaluateConfig, arguments: argparse.Namespace, path: Path) -> None:
    """A row for every item, sample and policy; the more is thought, the more is right."""
    draw = random.Random(0)
    said = "x" * ANSWER
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for item in range(arguments.items):
            rows = []
            for sample in range(arguments.samples):
                for place, policy in enumerate(settings.policies):
                    right = draw.random() < 0.3 + 0.04 * place
                    ledger = Ledger(
                        item=f"item-{item}",
                        sample=sample,
                        policy=policy.name,
                        thinking_tokens=1000 * (place + 1),
                        injected_tokens=policy.count,
                        answer_tokens=ANSWER // 2,
                        thinking_end="natural",
                        answer_end="stop",
                        extensions_used=policy.count,
                        extensions_skipped=0,
                        continued=False,
                        asked=policy.asked,
                        tries=1,
                        answer=said,
                    )
                    graded = {"task": "sums", "gold": "1", "extracted": "1" if right else "2", "rule": "boxed"}
                    rows.append(asdict(ledger) | graded | {"verdict": "correct" if right else "wrong"})
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The figures of the table, by name."""
    settings = config(arguments, folder)
    context = StepContext("report", "sweep", "0" * 16, folder / "sweep", folder / "traces")
    context.output.mkdir(parents=True)
    sweep = prepare(settings, context)
    letters = [sweep.prompter.forcing(grid([None], ["a"], [1])).injected["a"][0] + number for number in range(26)]
    asyncio.run(decode(sweep, Instant(letters, arguments.trace)))
    write_rows(settings, arguments, context.output / "samples.parquet")
    totals = {"units": arguments.items * arguments.samples, "seconds": 1.0, "policies_alone_tokens": 2}
    totals |= {"thinking_tokens_decoded": 1, "answer_tokens_decoded": 0}
    (context.output / "decode.json").write_text(json.dumps(totals))
    publish(settings, context, context.output / "samples.parquet", totals)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pages = folder / "report"
    pages.mkdir()
    began = time.perf_counter()
    report.write([FinishedStep(settings, context, None, None)], ReportRequest("report", pages, "report FILE"))
    page = (pages / "report.html").read_text()
    if arguments.page is not None:
        shutil.copyfile(pages / "report.html", arguments.page)
    return {
        "samples": arguments.items * arguments.samples,
        "policies": len(settings.policies),
        "seconds": time.perf_counter() - began,
        "memory_before_bytes": before,
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "page_bytes": len(page.encode()),
        "trees": whole_trees(page),
    }


def whole_trees(page: str) -> int:
    """Samples of which the page has the tree of traces, by what it says of itself."""
    said = re.search(
        r"All ([\d,]+) samples are here, each|([\d,]+) of them with the whole tree|of ([\d,]+) the traces", page
    )
    assert said is not None, "the page says what it has"
    return int(said[said.lastindex or 0].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder in Hugging Face's layout")
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--trace", type=int, default=32_768, help="tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also keep the page here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="report") as folder:
        figures = measure(arguments, Path(folder))
    table = Table("", "measured", title="A report on a large sweep")
    table.add_row(
        f"{figures['samples']:,} samples of {figures['policies']} policies, written in", f"{figures['seconds']:.1f} s"
    )
    table.add_row("page", f"{figures['page_bytes'] / 1e6:.1f} MB")
    table.add_row(f"trees of {arguments.trace:,} tokens in it", f"{figures['trees']:,}")
    table.add_row("memory, publishing included", f"{figures['memory_bytes'] / 2**30:.2f} GiB")
    Console().print(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
