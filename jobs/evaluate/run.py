"""The evaluate step: what is missing is decoded, everything is graded, and the curves are published.

A sweep is a set difference. Its policies and items say which leaves are needed; the store of traces says which are
there. What is left is decoded by a pool of replicas that add to the store, and from then on the run is the same whether
it decoded everything, a part after a crash, or nothing because an earlier sweep had it all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.pace import Pace
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Decoded, Fetched, ReplicaSpec, Work
from jobs.evaluate.engines import model as models
from jobs.evaluate.engines import starting
from jobs.evaluate.engines.protocol import LIKELIEST, EngineSpec
from jobs.evaluate.engines.recommended import described
from jobs.evaluate.grading.grader import Grader, form_of
from jobs.evaluate.grading.session import grading
from jobs.evaluate.planning import workload
from jobs.evaluate.planning.estimate import expected_lengths
from jobs.evaluate.planning.lengths import unmarked
from jobs.evaluate.rows import write_rows
from jobs.evaluate.samples import SampledPrompt
from jobs.evaluate.scorers import apart
from jobs.evaluate.scorers import resolve as scorers
from jobs.evaluate.scorers.protocol import Writer
from jobs.evaluate.stopping import replay
from jobs.evaluate.sweep.grown import Grown, is_whole, plant, seats
from jobs.evaluate.sweep.order import blocks
from jobs.evaluate.sweep.policy import Policy, walked
from jobs.evaluate.sweep.prompts import AFTER_CLOSE, Prompter, Unit, room, unit_key
from jobs.evaluate.sweep.roots import by_root
from jobs.evaluate.sweep.tree import Room
from jobs.evaluate.tasks import Task, load
from jobs.evaluate.traces.compaction import compact, shared
from jobs.evaluate.traces.files import DamagedFile, Index, traces_folder
from jobs.evaluate.traces.provenance import decoded_by
from jobs.template import UNMARKED
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.groups import group_prefix
from orchestrator.job.imports import import_meanwhile
from orchestrator.job.references import Reference
from orchestrator.job.usage import Meter

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

ROUNDS = 5
"""How often records that turn out damaged are decoded again before the disk is blamed."""


@dataclass(frozen=True)
class Sweep:
    """Everything that a config means, once its model and tasks are there."""

    questions: tuple[SampledPrompt, ...]
    """Every item with each of its prompts, task by task, in the order of tables."""
    prompter: Prompter
    replica: ReplicaSpec
    folder: StoragePath
    """Where its traces are kept."""
    model: str
    """What identifies it."""
    replayed: tuple[Policy, ...] = ()
    """Policies whose rows are made of what is decoded for others."""

    @property
    def units(self) -> Iterator[Unit]:
        """What can be decoded by itself, some of it perhaps more than once."""
        return (unit for question in self.questions for unit in question.units)


def run(config: EvaluateConfig, context: StepContext) -> None:
    """Writes ``samples.parquet`` (a row per item, sample and policy), ``decode.json``, ``grading.json``, and what
    `publish` makes."""
    began = time.monotonic()
    context.output.mkdir(parents=True, exist_ok=True)
    samples = context.output / "samples.parquet"
    with grading(config, context, context.output) as grader:
        totals = sample(config, context, tasks_of(config, context), samples, grader)
    totals["seconds"] = round(time.monotonic() - began, 3)
    (context.output / "decode.json").write_text(json.dumps(totals, indent=1))
    from jobs.evaluate.publish import publish

    publish(config, context, samples, totals)


def tasks_of(config: EvaluateConfig, context: StepContext) -> list[Task]:
    """What a config asks. Raises StepError naming the row that is no question."""
    return [load(task, context.inputs) for task in config.tasks]


def sample(
    config: EvaluateConfig, context: StepContext, tasks: Sequence[Task], samples: Path, grader: Grader
) -> dict[str, Any]:
    """Decodes what is missing, or asks a chat server for it, and writes the samples. Returns what that took."""
    if config.chat is None:
        return _decode(config, context, tasks, samples, grader)
    # Brings openai with it, whose types take most of a second to import.
    from jobs.evaluate.chat.run import answer

    return answer(config, context, tasks, samples, grader)


def _decode(
    config: EvaluateConfig, context: StepContext, tasks: Sequence[Task], samples: Path, grader: Grader
) -> dict[str, Any]:
    sweep = sweep_of(config, context, tasks)
    # While replicas start: what is published takes as long to import as what is decoded.
    import_meanwhile("jobs.evaluate.publish", "jobs.evaluate.figures.costs")
    context.use_traces(sweep.folder)
    meter = Meter(config.machine)
    try:
        with shared(sweep.folder):
            decoded, alone, kinds = _complete(config, context, sweep, samples, grader, meter)
    finally:
        context.hold(meter.held)
    compact(sweep.folder)
    from jobs.evaluate.figures.costs import costs

    return {
        "units": sum(1 for _ in sweep.units),
        "thinking_tokens_decoded": decoded.thinking,
        "answer_tokens_decoded": decoded.answers,
        "policies_alone_tokens": alone,
        **({} if config.search is None else _scoring(decoded)),
        "sampling": asdict(sweep.replica.sampling),
        "decoded_by": [json.loads(kind) for kind in kinds],
        "costs": costs(config.machine.device, meter.held, context.spent).record(),
    }


def _scoring(decoded: Decoded) -> dict[str, float]:
    """What scorers took: the tokens that they read, and the seconds for which they had something to score."""
    return {"scorer_tokens": decoded.scored, "scorer_seconds": round(decoded.scoring, 3)}


def prepare(config: EvaluateConfig, context: StepContext) -> Sweep:
    """The sweep over the config's own tasks."""
    return sweep_of(config, context, tasks_of(config, context))


def sweep_of(config: EvaluateConfig, context: StepContext, tasks: Sequence[Task]) -> Sweep:
    """Loads the model's small files, and tokenises everything that will be said to it."""
    model = models.resolve(config, context)
    prompter = Prompter(model.tokenizer, config.template.style, model.end_of_turn, config.instructions)
    template = prompter.template
    policies = walked(config.policies)
    forcing = prompter.forcing(policies)
    injected = {string: len(ids) for string, ids in forcing.injected.items()}
    trees_of = by_root(policies, prompter)
    writer = Writer(model.tokenizer, template, model.end_of_turn, config.instructions)
    scorer = None if config.search is None else scorers.resolve(config.search, config, context, writer, tasks)
    scored_by = ("", False) if scorer is None else (scorer.identity, scorer.kind.reads_answers)
    trees = tuple(
        plant(members, injected, len(forcing.step), forcing.longer, *scored_by) for members in trees_of.values()
    )
    answer = models.answer_tokens(config, model)
    questions = []
    searched: dict[str, tuple[int, str]] = {}
    for task_number, task in enumerate(tasks):
        for item in task.items:
            for number, (root, members) in enumerate(trees_of.items()):
                prompt = prompter.prompt(item.question, root)
                left = room(prompt, model.context_length, forcing, answer)
                key = unit_key(item.id, prompt, root.banned, root.steps)
                if root.steps is not None:
                    searched[key] = (task_number, item.id)
                form = form_of(task, item)
                units = [
                    Unit(key, each, prompt, left, number, root.banned, root.thinks, root.steps, form)
                    for each in range(config.samples_of(root))
                ]
                questions.append(SampledPrompt(task, item, tuple(units), tuple(members)))
    sampling = models.sampling(config, model)
    if config.sampling is not None:
        print(f"sampling: recommended is {described(sampling)}", flush=True)
    engine = models.engine(config, model, sampling, config.resources.in_flight * max(map(seats, trees)))
    determined_by = {
        "model": model.identity,
        "delimiters": [template.open, template.close, AFTER_CLOSE, *([template.step] if template.step else [])],
        "sampling": sampling.identity,
        "seed": config.seed,
        "numerics": _numerics(engine),
    }
    if forcing.ends is not None:
        determined_by["ends"] = "where all of close stands"
    if config.confidence:  # what was decoded without it cannot be filled in, so these sweeps share among themselves
        determined_by["confidence"] = f"of the {LIKELIEST} likeliest tokens"
    folder = traces_folder(context.traces, determined_by)
    resources = config.resources
    made = context.input(config.base) if isinstance(config.base, Reference) else None
    replica = ReplicaSpec(
        *(partial(starting.start, engine, made), trees, forcing, sampling, config.seed, folder),
        in_flight=resources.in_flight,
        fetch=None if engine.served else partial(starting.fetch_model, engine, made),
        on_gpus=bool(resources.gpus),
        token_deadline=resources.token_deadline,
        redirect_output=context.redirect_output,
        leave=context.leave,
        beliefs=config.confidence,
        online=replay.online(config, prompter),
        decoded_by=partial(decoded_by, engine),
        scorer=None if scorer is None else partial(scorer.kind.start, replace(scorer.spec, items=searched)),
    )
    return Sweep(tuple(questions), prompter, replica, folder, model.identity, tuple(replay.rules(config.policies)))


def _numerics(engine: EngineSpec) -> dict[str, str | bool]:
    """What computes the tokens. On a server that is the server's affair; its name for the model stands for it."""
    if engine.served is None:
        return {"engine": engine.name, "dtype": engine.dtype, "batch_invariant": engine.batch_invariant}
    return {"engine": engine.name, "served_model": engine.served.name}


def missing(sweep: Sweep, index: Index) -> list[Work]:
    """The units that lack a leaf, each with what is known of it: block by block of their items
    (:mod:`jobs.evaluate.sweep.order`), and of each block the longest expected first.

    A unit that was begun is expected to be long, because the others were finished first; then, a long question is.
    """
    block = block_of(sweep.questions)
    works: dict[tuple[str, int], Work] = {}
    for unit in sweep.units:
        known = index.unit(unit.item, unit.sample)
        if not is_whole(sweep.replica.trees[unit.tree], unit.room, known.extent):
            works[unit.item, unit.sample] = Work(unit, tuple(known.rows), tuple(index.places(known.rows)))
    return sorted(
        works.values(),
        key=lambda work: (block[work.unit.item], -sum(row.length for row in work.rows), -len(work.unit.prompt)),
    )


def block_of(questions: Sequence[SampledPrompt]) -> dict[str, int]:
    """The block of each unit, by the key of its item's prompt; of a prompt that two tasks have, the first."""
    items: dict[str, list[str]] = {}
    for question in questions:
        items.setdefault(question.task.name, []).append(question.item.id)
    of_item = {task: blocks(task, of_task) for task, of_task in items.items()}
    block_by_unit: dict[str, int] = {}
    for question in questions:
        number = of_item[question.task.name][question.item.id]
        for unit in question.units:
            block_by_unit[unit.item] = min(number, block_by_unit.get(unit.item, number))
    return block_by_unit


def _complete(
    config: EvaluateConfig, context: StepContext, sweep: Sweep, samples: Path, grader: Grader, meter: Meter
) -> tuple[Decoded, int, list[str]]:
    """Decodes until nothing is missing, and writes the samples. Returns what was decoded, what policies one by one
    would have, and what decoded all of it, then or earlier."""
    devices = config.devices(config.replica_demand())
    index = Index(sweep.folder, report=print)
    total = Decoded()
    planned = _planned(config, context, sweep)
    by_tree = {question.units[0].tree: question.policies for question in sweep.questions}
    most = _most(config, sweep.replica.trees, by_tree)
    for _ in range(ROUNDS):
        work = missing(sweep, index)
        forecast = Forecast(planned)
        forecast.finished(_finished(sweep, index, work))
        tell = partial(_tell, context, meter, Pace(), len({(unit.item, unit.sample) for unit in sweep.units}))
        tell(forecast.at((), [each.size for each in work]))
        if work:
            with _scorers_apart(config, context, sweep.replica, meter) as replica:
                total += decode(
                    work,
                    replica,
                    index,
                    config.resources,
                    config.replica_demand(),
                    f"{group_prefix(context.storage)}-replicas",
                    progress=tell,
                    lost=context.lost,
                    meter=meter,
                    devices=devices,
                    forecast=forecast,
                    most=most,
                    fetching=partial(_tell_fetched, context, meter),
                    begun=bool(config.scorers_apart),
                )
            index.refresh()
        try:
            alone = write_rows(config, samples, sweep.questions, sweep.replica.trees, sweep.prompter, index, grader)
            return total, alone, index.decoded_by((unit.item, unit.sample) for unit in sweep.units)
        except DamagedFile as error:
            index.discard(str(error))
    raise StepError(f"traces: records in {sweep.folder} are damaged again and again: check the disk they are on")


def _scorers_apart(
    config: EvaluateConfig, context: StepContext, replica: ReplicaSpec, meter: Meter
) -> AbstractContextManager[ReplicaSpec]:
    """The replica's spec, with scorers that are placed apart from it where the config has them so."""
    demand, name = config.scorer_demand(), f"{group_prefix(context.storage)}-scorers"
    held = config.devices(demand)
    given = replica, config.scorers_apart, demand, name, config.resources.wait, meter, held
    return apart.placed(*given, holding=lambda: context.hold(meter.held))


def _finished(sweep: Sweep, index: Index, work: Sequence[Work]) -> Iterator[int]:
    """The sizes of the units that lack nothing, in tokens."""
    lacking = {(each.unit.item, each.unit.sample) for each in work}
    for item, sample in {(unit.item, unit.sample) for unit in sweep.units} - lacking:
        yield sum(row.length for row in index.unit(item, sample).rows)


def _planned(config: EvaluateConfig, context: StepContext, sweep: Sweep) -> float:
    """Tokens of a unit in the mean, as the plan has it, of each task's first question on each of its trees."""
    firsts = {(question.task.name, question.units[0].tree): question for question in reversed(sweep.questions)}
    tasks = {task.name: task for task in config.tasks}
    means = []
    for (name, tree), question in firsts.items():
        task, unit = tasks[name], question.units[0]
        made = context.input(task.path).forecast if isinstance(task.path, Reference) else None
        lengths, trees = expected_lengths(task, config, made), sweep.replica.trees
        lengths = lengths if unit.thinks else unmarked(lengths)
        mean = workload.item(trees[tree], question.policies, unit.room, len(unit.prompt), lengths)
        means.append(mean.once.decoded)
    return sum(means) / len(means)


def _most(
    config: EvaluateConfig, trees: Sequence[Grown], by_tree: Mapping[int, tuple[Policy, ...]]
) -> Callable[[Unit], float]:
    """The most tokens that a unit may come to, remembered by its tree and its room."""
    thinks = config.template.style != UNMARKED

    @cache
    def most(tree: int, room: Room) -> float:
        thinking = thinks and by_tree[tree][0].root.thinks
        return workload.at_most(trees[tree], by_tree[tree], room, 0, thinking).once.decoded

    return lambda unit: most(unit.tree, unit.room)


def _tell(context: StepContext, meter: Meter, pace: Pace, units: int, progress: Progress) -> None:
    left = pace.left(time.monotonic(), progress)
    unit = f"tokens, {progress.units:,}/{units:,} units"
    context.progress(progress.tokens, progress.expected, unit, left, progress.replicas)
    context.hold(meter.held)


def _tell_fetched(context: StepContext, meter: Meter, fetched: Fetched) -> None:
    context.progress(fetched.there, fetched.of, "bytes of the model")
    context.hold(meter.held)
