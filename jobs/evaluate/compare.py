"""Two sweeps against each other, item by item: another model, another prompt, another day.

The items that both were asked are paired by id, and each point of the one (a policy, or the natural end's majority@k)
with the point of that name in the other. All comparisons together are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from jobs.evaluate.figures.tables import cell, markdown, p_value, percent
from jobs.evaluate.stats.comparisons import Comparison, Scores, corrected, differences, scores
from jobs.evaluate.stats.curves import NATURAL_END
from jobs.evaluate.stats.outcomes import Outcomes, read
from orchestrator.job.errors import StepError
from orchestrator.job.record import Compared

SAMPLES = "samples.parquet"


def compare(first: Compared, second: Compared, points: tuple[str, str] | None = None) -> str:
    """Tables in Markdown, a task each, of what `second` gains over `first`.

    `points` are the names of the one point of each that is compared; None: all that both have. Raises StepError where
    they have nothing in common, or where an item's correct answer is not the same in both.
    """
    before, after = ({task.task: task for task in read(each.output / SAMPLES)} for each in (first, second))
    shared = [task for task in before if task in after]
    if not shared:
        raise StepError(
            f"compare: no task is in both: {first.name} has {', '.join(before)}, {second.name} has {', '.join(after)}"
        )
    comparisons: list[Comparison] = []
    values: dict[tuple[str, str, str], tuple[float, float]] = {}
    for task in shared:
        for comparison, pair in _compared(before[task], after[task], points):
            comparisons.append(comparison)
            values[task, comparison.reference, comparison.policy] = pair
    heading = f"{second.name} against {first.name}. Intervals and differences are at 95%, paired by item."
    if any(each.difference.has_range for each in comparisons):
        heading += (
            " Some samples could not be graded: differences are of the others, intervals and p hold whatever those "
            "were, and the range is from all of them speaking against the second to all for it."
        )
    sections = [heading]
    for task in shared:
        of_task = [each for each in corrected(comparisons) if each.task == task]
        sections.append(f"{task}: {of_task[0].items} items of both.")
        sections.append(_table(of_task, first.name, second.name, values))
    return "\n\n".join(sections) + "\n"


def _compared(
    before: Outcomes, after: Outcomes, points: tuple[str, str] | None
) -> Iterator[tuple[Comparison, tuple[float, float]]]:
    """Each comparison of a task with the two values that it compares."""
    first, second = _on_shared_items(before, after)
    both = first.beside(second)
    if points is None:
        pairs = [(name, name) for name in first.points if name in second.points]
        if not pairs:
            raise StepError(
                f"compare: {before.task} has no policy in both: {', '.join(first.points)} against "
                f"{', '.join(second.points)}: name one of each with --points"
            )
    else:
        pairs = [points]
        for name, side in zip(points, (first, second), strict=True):
            if name not in side.points:
                raise StepError(f"compare: {before.task} has no {name!r}: there are {', '.join(side.points)}")
    columns = [(first.points.index(one), len(first.points) + second.points.index(other)) for one, other in pairs]
    values = both.shares.graded.means
    for comparison, (one, other) in zip(differences(before.task, both, columns), columns, strict=True):
        yield comparison, (float(values[one]), float(values[other]))


def _on_shared_items(before: Outcomes, after: Outcomes) -> tuple[Scores, Scores]:
    """The points of both on the items that both have, in one order."""
    items = sorted(set(before.items) & set(after.items))
    if not items:
        raise StepError(f"compare: {before.task} has no item in both: they were asked different questions")
    for item in items:
        answers = [side.golds[item] for side in (before, after) if item in side.golds]
        if len(set(answers)) > 1:
            raise StepError(
                f"compare: {before.task}: the correct answer to item {item!r} is {answers[0]!r} in one and "
                f"{answers[1]!r} in the other: they are not the same questions"
            )
    scores_of = []
    for side in (before, after):
        points, rows = scores(side, NATURAL_END.name), np.searchsorted(np.array(side.items), items)
        scores_of.append(Scores(points.points, points.shares.rows(rows)))
    return scores_of[0], scores_of[1]


def _table(
    comparisons: list[Comparison],
    first: str,
    second: str,
    values: Mapping[tuple[str, str, str], tuple[float, float]],
) -> str:
    uncertain = any(each.difference.has_range for each in comparisons)
    columns = (
        *("", cell(first), cell(second), "difference", *(["range"] if uncertain else [])),
        *("p", "p, corrected", "detectable", "better", "worse"),
    )
    lines = []
    for each in comparisons:
        before, after = values[each.task, each.reference, each.policy]
        low, high = each.difference.interval.low, each.difference.interval.high
        same = each.policy == each.reference
        lines.append(
            (
                cell(each.policy if same else f"{each.policy} against {each.reference}"),
                percent(before),
                percent(after),
                f"{100 * each.difference.value:+.1f} ({100 * low:+.1f} … {100 * high:+.1f})",
                *([f"{100 * each.difference.range.low:+.1f} … {100 * each.difference.range.high:+.1f}"] * uncertain),
                p_value(each.difference.p_value),
                p_value(each.p_holm),
                percent(each.detectable),
                str(each.better),
                str(each.worse),
            )
        )
    return markdown(columns, lines)
