"""What a sweep comes to in a few words: its headline numbers, its cost, and what produced it. Read from its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.catalogue import in_usd
from jobs.evaluate.report.results import CurvePoint, FinishedSweep, count, percent, points_of_100
from jobs.evaluate.report.viewer import TaskData
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.traces.provenance import mixed, read_kinds
from orchestrator.job.record import FinishedStep
from orchestrator.job.usage import against

NATURAL_END = Budget().name


@dataclass(frozen=True)
class Tile:
    """A number worth a large font, and what it is."""

    value: str
    what: str


@dataclass(frozen=True)
class Cost:
    """What a sweep took."""

    decoded: int
    """Tokens that the sweep's own run decoded; 0 where the store had all of them."""
    alone: int
    """Tokens that its policies, one by one, would have."""
    sentence: str


def subtitle(sweeps: Sequence[FinishedSweep]) -> str:
    """What was asked of which models."""
    models = ", ".join(dict.fromkeys(sweep.model for sweep in sweeps))
    tasks = ", ".join(dict.fromkeys(task for sweep in sweeps for task in sweep.tasks))
    policies = max(len(sweep.policies) for sweep in sweeps)
    return f"{models} on {tasks}, under {policies} policies of thinking"


def about(sweep: FinishedSweep, task: str) -> str:
    """The setting of one task's numbers."""
    config = sweep.config
    point = sweep.points(task)[0]
    samples = f", {config.samples} samples of each" if config.samples > 1 else ""
    drawn = sweep.sampling
    sampling = (
        ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in drawn.items())
        if drawn["temperature"]
        else "greedy decoding"
    )
    return f"{sweep.model} · {count(point['items'])} items{samples} · {sampling} · engine {config.engine_name}"


def tiles(sweep: FinishedSweep, data: TaskData) -> list[Tile]:
    """Where the model stands by itself, what helps most, and how many answers that turns."""
    points = {str(point["policy"]): point for point in sweep.points(data.task) if point["accuracy"] is not None}
    if not points:
        return [Tile("–", "no answer could be graded")]
    told = {policy.name for policy in sweep.policies if policy.told}  # bounds, which nobody could choose
    free = [point for name, point in points.items() if name not in told] or list(points.values())
    best = max(free, key=lambda point: float(point["accuracy"]))
    shown = []
    if natural := points.get(NATURAL_END):
        shown.append(Tile(percent(natural["accuracy"]), f"at the natural end, {_tokens(natural)}"))
    shown.append(Tile(percent(best["accuracy"]), f"best: {best['policy']}, {_tokens(best)}"))
    if natural and best["difference"] is not None:
        low, high = points_of_100(best["difference_low"]), points_of_100(best["difference_high"])
        shown.append(Tile(points_of_100(best["difference"]), f"points gained by it ({low} … {high})"))
        won, lost = data.verdicts.flips(NATURAL_END, str(best["policy"]))
        shown.append(Tile(f"{won:,} / {lost:,}", f"of {data.samples:,} samples wrong → right / right → wrong"))
    return shown


def cost(sweep: FinishedSweep) -> Cost:
    """From ``decode.json``."""
    decode = sweep.decode
    decoded = int(decode["thinking_tokens_decoded"] + decode["answer_tokens_decoded"])
    alone = int(decode["policies_alone_tokens"])
    took = f"{decode['seconds']:,.0f} s on the clock"
    if "costs" in decode:
        costs = decode["costs"]
        took += f", {costs['device_seconds']:,.0f} {costs['device']}-seconds and {in_usd(costs['usd'])}"
    shared = (
        f"{decoded:,} tokens were decoded; each policy by itself would have decoded {alone:,} in all, "
        f"{alone / decoded:.2f} times as many"
        if decoded
        else f"Nothing was decoded, for the store had every trace; each policy by itself takes {alone:,} tokens in all"
    )
    sentence = f"{shared}. The sweep took {took}, for {count(decode['units'])} traces."
    return Cost(decoded, alone, " ".join([sentence, *against_expectation(sweep.step)]))


def against_expectation(step: FinishedStep) -> Iterator[str]:
    """What the plan had said, against what all attempts came to."""
    spent, expected = step.spent, step.expected
    if spent is None:
        return
    yield f"All attempts together ran for {spent.seconds:,.0f} s."
    if expected is None:
        yield f"They came to {in_usd(spent.usd)}; nothing had been estimated."
    else:
        yield f"By the plan and by the account: {against(expected, spent)}."


def facts(sweep: FinishedSweep) -> list[tuple[str, str]]:
    """What produced the sweep's numbers, by name."""
    context, step = sweep.context, sweep.step
    said: Mapping[str, object] = step.provenance or {"commit": "not kept"}
    inputs = [f"{each.name} {each.fingerprint}" for each in context.inputs.values()]
    packages = said.get("packages")
    kinds = read_kinds(sweep.decode)
    pairs = [
        ("step", f"{context.name}, fingerprint {context.fingerprint}"),
        ("made from", ", ".join(inputs)),
        ("model", sweep.model),
        ("commit", str(said["commit"] or "none: the step did not run in a git checkout")),
        ("python", f"{said['python']}, {said['machine']}" if "python" in said else ""),
        (
            "packages",
            ", ".join(f"{name} {version}" for name, version in packages.items())
            if isinstance(packages, Mapping)
            else "",
        ),
        ("engine", f"{sweep.config.engine_name}, dtype {sweep.config.dtype}"),
        ("decoded by", mixed(kinds) or "".join(", ".join(f"{name} {kind[name]}" for name in kind) for kind in kinds)),
        ("seed", str(sweep.config.seed)),
        ("wall time", "" if step.seconds is None else f"{step.seconds:,.0f} s"),
        ("version", f"evaluate {sweep.config.VERSION}"),
    ]
    return [(name, value) for name, value in pairs if value]


def _tokens(point: CurvePoint) -> str:
    return f"{count(round(point['thinking_tokens'], 1))} thinking tokens"
