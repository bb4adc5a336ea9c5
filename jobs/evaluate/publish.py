"""What a sweep leaves behind: curves, tables and plots in its output, and one tracked run per curve.

Everything here is a pure function of the samples and the config, so publishing twice gives the same files; how much was
decoded to get there differs between runs, and goes to the tracking server only.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.evaluate import interactive, plots, tables, tasks
from jobs.evaluate.config import Config
from jobs.evaluate.curves import MeasuredCurve, Point, measure
from jobs.evaluate.grading.session import was_graded_by
from orchestrator.step import Reference, StepContext

PUBLISHED = ("plot.png", "plot.html", "table.csv", "table.md", "curves.json")
"""In the step's output, and with each of its tracked runs."""


def publish(config: Config, context: StepContext, samples: Path, decode: Mapping[str, object]) -> None:
    """Writes the sweep's results from `samples`, a parquet file with a row per :class:`~jobs.evaluate.ledger.Graded`.

    `decode` says what decoding took; its numbers are tracked as ``sweep_<name>``.
    """
    curves = measure(samples, config.policies, config.seed)
    write(curves, _title(config), _subtitle(config, curves), context.output)
    hashes = {task.name: tasks.load(task, context.inputs).hash for task in config.tasks}
    for members in plots.by_task(curves).values():
        for number, curve in enumerate(members):
            _track(config, context, curve, number, hashes[curve.task], samples, decode)


def write(curves: Sequence[MeasuredCurve], title: str, subtitle: str, folder: Path) -> None:
    """The files of :data:`PUBLISHED`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text(tables.as_csv(curves))
    (folder / "table.md").write_text(tables.as_markdown(curves))
    (folder / "curves.json").write_text(json.dumps(tables.as_record(curves), indent=1) + "\n")
    plots.write_png(curves, title, subtitle, folder / "plot.png")
    interactive.write_html(curves, title, subtitle, folder / "plot.html")


def metrics(point: Point) -> dict[str, float]:
    """What is tracked of a point: the numbers of its row in the table that are defined, and what k samples score.

    ``pass_at_8`` and ``majority_at_8`` are there for k = 2, 4, 8 …; their intervals are in the table.
    """
    named = tables.row("", point)
    if point.score == "accuracy":
        named.pop("k", None)
    for each in (*point.scaled("pass@k"), *point.scaled("majority@k")):
        if each.k > 1 and not math.isnan(each.accuracy):
            named[each.scored.replace("@", "_at_")] = each.accuracy
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float)}


def steps(curve: MeasuredCurve) -> dict[int, Point]:
    """The points of a curve by their place on the tracked x axis: mean thinking tokens, rounded.

    Points that round to the same place differ by less than a token; a chart can show one of them. The last is taken:
    the largest budget, or the most extensions. The table has them all.
    """
    found = {round(point.thinking_tokens): point for point in curve.points}
    return dict(sorted(found.items()))


def _track(
    config: Config,
    context: StepContext,
    curve: MeasuredCurve,
    number: int,
    task_hash: str,
    samples: Path,
    decode: Mapping[str, object],
) -> None:
    named = [context.name, *([curve.task] if len(config.tasks) > 1 else []), curve.name]
    params = {
        "model": _model(config),
        "task": curve.task,
        "task_hash": task_hash[:16],
        "curve": curve.name,
        "points": ", ".join(curve.label(point) for point in curve.points),
        "items": max(point.items for point in curve.points),
        "samples_per_item": config.samples,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": config.seed,
        "template": str(config.template),
        "max_answer_tokens": config.max_answer_tokens,
        "context_length": config.context_length,
        "engine": config.engine_name,
        **({"served_model": config.served_model} if config.served_model else {}),
        "dtype": config.dtype,
    }
    tags = {"sweep": f"{context.experiment}/{context.name}", "color": plots.colour(number)}
    tags |= {name: str(value) for name, value in was_graded_by(context.output).items()}
    if isinstance(config.model, Reference):
        tags["model_fingerprint"] = context.input(config.model).fingerprint
    run = context.track(" · ".join(named), params, tags)
    run.rewind(-1)  # an attempt that was stopped while publishing may have logged some of it
    places = steps(curve)
    for place, point in places.items():
        run.metrics(metrics(point), step=place)
    totals = {
        f"sweep_{name}": float(value)
        for name, value in decode.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    if totals:
        run.metrics(totals, step=max(places))
    for name in PUBLISHED:
        shutil.copyfile(context.output / name, run.artifacts / name)
    _write_samples(curve, samples, run.artifacts / "samples.parquet")


def _write_samples(curve: MeasuredCurve, samples: Path, path: Path) -> None:
    """Copies the samples of a curve, batch by batch: answers of a large sweep need not fit in memory."""
    names = [point.policy.name for point in curve.points]
    source = ds.dataset(samples, format="parquet")
    own = (ds.field("task") == curve.task) & ds.field("policy").isin(names)
    with pq.ParquetWriter(path, source.schema, compression="zstd") as writer:
        for batch in source.scanner(filter=own).to_batches():
            if batch.num_rows:
                writer.write_batch(batch)


def _model(config: Config) -> str:
    """As it is called: the step that made it, the folder's last name, or the name on its hub."""
    if isinstance(config.model, Reference):
        return config.model.step
    return Path(config.model).name if Path(config.model).is_dir() else config.model


def _title(config: Config) -> str:
    return f"{_model(config)}: accuracy against thinking"


def _subtitle(config: Config, curves: Sequence[MeasuredCurve]) -> str:
    points = [point for curve in curves for point in curve.points]
    names = [task.name for task in config.tasks]
    what = [", ".join(names)]
    if len(names) == 1:
        what.append(f"{max(point.items for point in points):,} items")
    if config.samples > 1:
        what.append(f"{config.samples} samples each")
    what.append(f"temperature {config.temperature:g}" if config.temperature else "greedy")
    what.append("95% intervals")
    return " · ".join(what)
