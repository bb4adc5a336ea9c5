"""What a sweep leaves behind: curves, tables and plots in its output, and one tracked run per curve.

Everything here is a pure function of the samples and the config, so publishing twice gives the same files; how much was
decoded to get there differs between runs, and goes to the tracking server and to ``costs.json`` only.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from jobs.evaluate import tasks
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.drawing import SAMPLING
from jobs.evaluate.figures import (
    comparison_tables,
    costs,
    equal_tokens,
    frontier_pictures,
    frontier_plots,
    frontier_tables,
    interactive,
    plots,
    tables,
)
from jobs.evaluate.grading.session import was_graded_by
from jobs.evaluate.published import Published
from jobs.evaluate.stats.agreement import Beside, lay_beside
from jobs.evaluate.stats.bounded import CONFIDENCE
from jobs.evaluate.stats.comparisons import POWER, Comparison, compare
from jobs.evaluate.stats.curves import NATURAL_END, MeasuredCurve, Point, drawn
from jobs.evaluate.stats.equal_tokens import EqualTokens, at_equal_tokens
from jobs.evaluate.stats.frontier import Frontier, frontiers
from jobs.evaluate.stats.intervals import RESAMPLES, Interval
from jobs.evaluate.stats.options import TOKENS, options
from jobs.evaluate.stats.outcomes import Outcomes, read
from jobs.evaluate.stats.s1_metrics import Method, measure_methods
from jobs.evaluate.stats.votes import spelled
from jobs.evaluate.stopping import findings
from jobs.evaluate.traces.provenance import mixed, read_kinds
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.references import Reference
from orchestrator.store.manifest import hashed_file

PUBLISHED = (
    *("plot.png", "plot.html", "table.csv", "table.md"),
    *("frontier.png", "frontier.html", "frontier.json"),
    *("curves.json", "comparisons.json", "comparisons.parquet", "methods.json", "published.json"),
)
"""In the step's output, and with each of its tracked runs; the last where the experiment file has published values."""

COSTS = "costs.json"
"""What the sweep cost, and each of its points: there where something was held for it."""

COMPARISONS = pa.schema(
    [
        *((name, pa.string()) for name in ("task", "policy", "reference")),
        ("items", pa.int32()),
        *((name, pa.float64()) for name in ("difference", "difference_low", "difference_high")),
        *((name, pa.float64()) for name in ("difference_least", "difference_most")),
        *((name, pa.float64()) for name in ("p_value", "t_p_value", "p_holm", "detectable")),
        *((name, pa.int32()) for name in ("better", "worse")),
    ]
)
"""The columns of ``comparisons.parquet``, which are the fields of ``comparisons.json`` too."""


@dataclass(frozen=True)
class SweepResults:
    """All that a sweep says, from its samples."""

    curves: tuple[MeasuredCurve, ...]
    comparisons: tuple[Comparison, ...]
    methods: tuple[Method, ...]
    frontiers: tuple[Frontier, ...]
    equal_tokens: tuple[EqualTokens, ...]
    published: Published | None

    @property
    def beside(self) -> tuple[Beside, ...]:
        """Published values beside those of the sweep."""
        if self.published is None:
            return ()
        return lay_beside(self.published, tables.measured_points(self.curves), self.methods)


def results(config: EvaluateConfig, samples: Path) -> SweepResults:
    """What `samples` come to: a parquet file with a row per :class:`~jobs.evaluate.sweep.ledger.Graded`."""
    outcomes = outcomes_of(config, samples)
    votes = spelled(config.votes, config.scores)
    return SweepResults(
        curves=drawn(outcomes, config.policies, config.seed, config.at_k, votes),
        comparisons=compare(outcomes, NATURAL_END.name, config.at_k, votes, config.seed),
        methods=measure_methods(outcomes, config.policies, config.seed),
        frontiers=tuple(
            over
            for task in outcomes
            for found in [
                options(
                    *(task, config.policies, votes, "", config.at_k),
                    seed=config.seed,
                    told=config.scorer_is_told,
                )
            ]
            for over in frontiers(found, config.seed)
        ),
        equal_tokens=tuple(
            each
            for task in outcomes
            for each in at_equal_tokens(task, config.policies, votes, config.seed, config.scorer_is_told)
        ),
        published=config.published,
    )


def outcomes_of(config: EvaluateConfig, samples: Path) -> tuple[Outcomes, ...]:
    """`samples` as numbers, the policies of `config` being their columns. Raises StepError where a score is none."""
    try:
        return read(samples, [policy.name for policy in config.policies], config.scores)
    except ValueError as error:
        raise StepError(str(error)) from error


def publish(config: EvaluateConfig, context: StepContext, samples: Path, decode: Mapping[str, object]) -> None:
    """Writes the sweep's results from `samples`. `decode` says what decoding took; its numbers are tracked as
    ``sweep_<name>``."""
    sweep = results(config, samples)
    drawn = sampling_of(config, decode)
    title, subtitle = _title(config), _subtitle(config, drawn, sweep.curves)
    write(sweep, title, subtitle, context.output, mixed(read_kinds(decode)))
    findings.write(config.policies, config.seed, context.output)
    hashes = {task.name: tasks.load(task, context.inputs).hash for task in config.tasks}
    compared = tables.against_natural_end(sweep.comparisons)
    spent = costs.read(decode)
    cost_of = {} if spent is None else costs.of_points(sweep.curves, spent)
    if spent is not None:
        _write_json(context.output / COSTS, {**spent.record(), "points": costs.rows(sweep.curves, spent)})
    for members in plots.by_task(sweep.curves).values():
        for number, curve in enumerate(members):
            totals = {
                f"sweep_{name}": float(value)
                for name, value in decode.items()
                if isinstance(value, int | float) and math.isfinite(value)
            }
            once = method_metrics(curve, sweep.methods) | findings.metrics(context.output, curve.task) | totals
            _track(config, context, drawn, curve, compared, cost_of, number, hashes[curve.task], samples, once)


def write(sweep: SweepResults, title: str, subtitle: str, folder: Path, remark: str = "") -> None:
    """The files of :data:`PUBLISHED`. `remark` is said below the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    curves, beside = sweep.curves, sweep.beside
    (folder / "table.csv").write_text(tables.as_csv(curves, sweep.comparisons))
    sections = [tables.as_markdown(curves, sweep.comparisons), comparison_tables.methods_markdown(sweep.methods)]
    if sweep.published is not None:
        sections.append(comparison_tables.beside_markdown(beside, sweep.published.source))
        values = comparison_tables.beside_rows(beside)
        _write_json(folder / "published.json", {"source": sweep.published.source, "values": values})
    sections.append(equal_tokens.as_markdown(sweep.equal_tokens))
    sections.append(frontier_tables.as_markdown([each for each in sweep.frontiers if each.axis == TOKENS]))
    sections.append(f"{remark}\n" if remark else "")
    (folder / "table.md").write_text("\n".join(section for section in sections if section))
    _write_json(folder / "curves.json", tables.as_record(curves))
    _write_json(folder / "methods.json", comparison_tables.method_rows(sweep.methods))
    compared = comparison_tables.comparison_rows(sweep.comparisons)
    how = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "power": POWER}
    _write_json(folder / "comparisons.json", {**how, "comparisons": compared})
    pq.write_table(pa.Table.from_pylist(compared, COMPARISONS), folder / "comparisons.parquet")
    _write_json(folder / "frontier.json", frontier_tables.records(sweep.frontiers))
    equal_tokens.write(sweep.equal_tokens, folder)
    by_task = {each.task: [other for other in sweep.frontiers if other.task == each.task] for each in sweep.frontiers}
    frontier_pictures.write_png(list(by_task.items()), folder / "frontier.png")
    frontier_plots.write_html(list(by_task.items()), folder / "frontier.html")
    plots.write_png(curves, title, subtitle, folder / "plot.png")
    interactive.write_html(curves, title, subtitle, folder / "plot.html")


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def metrics(point: Point, compared: Comparison | None, band: Interval) -> dict[str, float]:
    """What is tracked of a point: the numbers of its row in the table that are defined, its part of the curve's `band`,
    and what k samples score.

    ``pass_at_8`` and ``majority_at_8`` are there for k = 2, 4, 8 …; their intervals are in the table, their
    ranges where samples could not be graded ``pass_at_8_least`` and ``pass_at_8_most``.
    """
    named = tables.row("", point, compared) | tables.bounded("accuracy_band", band)
    if point.vote is None:
        named.pop("k", None)
    for each in (scaled for vote in point.votes for scaled in point.scaled(vote)):
        if each.k > 1 and not math.isnan(each.accuracy):
            name = each.scored.replace("@", "_at_").replace(" ", "_")
            named[name] = each.accuracy
            if each.range is not None:
                named |= {f"{name}_least": each.range.low, f"{name}_most": each.range.high}
    return {name: float(value) for name, value in named.items() if isinstance(value, int | float)}


def method_metrics(curve: MeasuredCurve, methods: Sequence[Method]) -> dict[str, float]:
    """What is tracked of a curve as a method of scaling: Control, Scaling and Performance where they are defined.

    They are named as in ``methods.json``; ``with_budgets_…`` are those of the curve together with the budgets.
    """
    metrics: dict[str, float] = {}
    for prefix, name in (("", curve.name), ("with_budgets_", f"budget + {curve.name}")):
        of_curve = [method for method in methods if (method.task, method.name) == (curve.task, name)]
        for row in comparison_tables.method_rows(of_curve):
            numbers = {field: value for field, value in row.items() if isinstance(value, float)}
            metrics |= {f"{prefix}{field}": value for field, value in numbers.items() if math.isfinite(value)}
    return metrics


def steps(curve: MeasuredCurve) -> dict[int, Point]:
    """The points of a curve by their place on the tracked x axis: mean thinking tokens, rounded.

    Points that round to the same place differ by less than a token; a chart can show one of them. The last is taken:
    the largest budget, or the most extensions. The table has them all.
    """
    at_step = {round(point.thinking_tokens): point for point in curve.points}
    return dict(sorted(at_step.items()))


def _track(
    config: EvaluateConfig,
    context: StepContext,
    drawn: Mapping[str, Any],
    curve: MeasuredCurve,
    compared: Mapping[tuple[str, str], Comparison],
    cost: Mapping[tuple[str, str], Mapping[str, float]],
    number: int,
    task_hash: str,
    samples: Path,
    once: Mapping[str, float],
) -> None:
    """`once` are the numbers of the whole curve: they are at its last place."""
    named = [context.name, *([curve.task] if len(config.tasks) > 1 else []), curve.name]
    params = {
        "model": config.model_name,
        "task": curve.task,
        "task_hash": task_hash[:16],
        "curve": curve.name,
        "points": ", ".join(curve.label(point) for point in curve.points),
        "items": max(point.items for point in curve.points),
        "samples_per_item": config.samples,
        "seed": config.seed,
        "engine": config.engine_name,
        **({"served_model": config.served_model} if config.served_model else {}),
        **_decoding(config, drawn),
    }
    tags = {"sweep": f"{context.experiment}/{context.name}", "color": plots.colour(number)}
    tags |= {name: str(value) for name, value in was_graded_by(context.output).items()}
    if isinstance(config.base, Reference):
        tags["model_fingerprint"] = context.input(config.base).fingerprint
    run = context.track(" · ".join(named), params, tags)
    run.rewind(-1)  # an attempt that was stopped while publishing may have logged some of it
    places = steps(curve)
    bands = {point.name: band for point, band in zip(curve.points, curve.band, strict=True)}
    for place, point in places.items():
        key = (curve.task, point.name)
        measured = metrics(point, compared.get(key), bands[point.name])
        run.metrics({**measured, **cost.get(key, {})}, step=place)
    if once:
        run.metrics(once, step=max(places))
    optional = {
        COSTS: cost,
        findings.FILE: findings.read(context.output),
        equal_tokens.FILE: equal_tokens.read(context.output),
    }
    more = [name for name, there in optional.items() if there]
    for name in (*(PUBLISHED if config.published else PUBLISHED[:-1]), *more):
        shutil.copyfile(context.output / name, run.artifacts / name)
    _write_samples(curve, samples, run.artifacts / "samples.parquet")


def _write_samples(curve: MeasuredCurve, samples: Path, path: Path) -> None:
    """Copies the samples of a curve, batch by batch: answers of a large sweep need not fit in memory."""
    names = [point.policy.name for point in curve.points]
    source = ds.dataset(samples, format="parquet")
    of_curve = (ds.field("task") == curve.task) & ds.field("policy").isin(names)
    with hashed_file(path) as file, pq.ParquetWriter(file, source.schema, compression="zstd") as writer:
        for batch in source.scanner(filter=of_curve).to_batches():
            if batch.num_rows:
                writer.write_batch(batch)


def sampling_of(config: EvaluateConfig, decode: Mapping[str, Any]) -> Mapping[str, Any]:
    """How tokens were drawn: as ``decode.json`` has it where the checkpoint decided it."""
    sampling: Mapping[str, Any] = decode.get("sampling", {name: getattr(config, name) for name in SAMPLING})
    return sampling


def _decoding(config: EvaluateConfig, drawn: Mapping[str, Any]) -> dict[str, str | int | float]:
    """What is tracked of how tokens come about: on a server that only chats, what it was told."""
    if config.chat is not None:
        return {f"chat.{name}": json.dumps(value) for name, value in config.chat.parameters.items()}
    return {
        **({} if config.sampling is None else {"sampling": config.sampling}),
        **{name: value for name, value in drawn.items() if name in ("temperature", "top_p") or value != SAMPLING[name]},
        "template": str(config.template),
        "max_answer_tokens": config.max_answer_tokens,
        "context_length": config.context_length,
        "dtype": config.dtype,
    }


def _title(config: EvaluateConfig) -> str:
    return f"{config.model_name}: accuracy against thinking"


def _subtitle(config: EvaluateConfig, drawn: Mapping[str, Any], curves: Sequence[MeasuredCurve]) -> str:
    points = [point for curve in curves for point in curve.points]
    names = [task.name for task in config.tasks]
    what = [", ".join(names)]
    if len(names) == 1:
        what.append(f"{max(point.items for point in points):,} items")
    if config.samples > 1:
        what.append(f"{config.samples} samples each")
    if config.chat is None:
        what.append(f"temperature {drawn['temperature']:g}" if drawn["temperature"] else "greedy")
    what.append("95% intervals, for other items")
    return " · ".join(what)
