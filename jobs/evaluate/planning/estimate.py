"""What a sweep would take: time and cost as a whole and by policy, and what decoding its tree once saves.

From the config, the model's config.json, the machine catalogue and assumed lengths alone, so that a plan can tell it on
a laptop. What rests on an assumption says so, and comes with the most that it can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from jobs.architecture import Architecture, UnknownArchitecture, find, folder_of, keeps_states, needs_torchvision
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.context import MOST_AUTO, auto_context, context_remarks
from jobs.evaluate.engines.recommended import FILE, NothingRecommended, described, read
from jobs.evaluate.engines.registry import ENGINES, chosen
from jobs.evaluate.planning.lengths import ASSUMED, published, scaled, unmarked
from jobs.evaluate.planning.priced import priced
from jobs.evaluate.planning.roofline import BANDWIDTH_SHARE, CACHED, PlannedReplica, PlannedScorer, Taken, taken
from jobs.evaluate.planning.workload import Workload, at_most, item
from jobs.evaluate.sweep.grown import plant
from jobs.evaluate.sweep.policy import Policy, Root, printable, walked
from jobs.evaluate.sweep.tree import Room
from jobs.evaluate.tasks.config import TaskConfig
from jobs.forecasts import DatasetForecast, ModelForecast, ThinkingForecast
from jobs.letters.config import THINKING as LETTERS
from jobs.template import UNMARKED
from orchestrator.job.config import Upcoming
from orchestrator.job.estimate import Estimate, Part
from orchestrator.job.local_files import LocalPath
from orchestrator.job.references import Reference
from orchestrator.job.resources import DEFAULT_GPU

_PROMPT = 200
"""Tokens of a question with its chat markers, and of the delimiters: benchmarks of mathematics have about so many."""

_SPLITS = (1, 2, 4, 8)
"""Cards over which a model is split."""


@dataclass(frozen=True)
class _Sweep:
    """All that is decoded, and what that rests on."""

    expected: Workload
    most: Workload
    words: tuple[str, ...]


def estimate(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> Estimate:
    """What `config` would take, as far as it can be known before launch."""
    if config.chat is not None:
        made = {
            task.name: inputs[task.path.step].forecast if isinstance(task.path, Reference) else None
            for task in config.tasks
        }
        return priced(
            config, lambda task: _items(task, inputs), lambda task: expected_lengths(task, config, made[task.name])
        )
    try:
        model: Architecture | None = _architecture(config.base, inputs)
        unknown = ""
    except UnknownArchitecture as error:
        model, unknown = None, str(error)
    assumed = context_remarks(model.context if model else None) if config.context_length == "auto" else ()
    of_model = (*assumed, *_recommended(config, inputs), *_states(config), *_lacking(config))
    scorer, unscored = _scorer(config, inputs)
    sweep = _sweep(config, inputs, _context(config, model), _window(config, scorer))
    if sweep is None:
        unknown_items = "time and cost are not known before launch: how many items its tasks have is not known"
        return Estimate(unknown_items, remarks=of_model)
    scoring = _scoring(config, sweep.expected, unscored)
    remarks = (_saving(config, sweep.expected), *scoring, *sweep.words, *of_model)
    if config.engine_kind.served or model is None:
        why = unknown and f"time and cost of {config.model} are not known before launch: {unknown}"
        holder = why or "decoded on a server: time and cost are its own affair"
        return Estimate(holder, parts=tuple(_parts(config, sweep.expected)), remarks=remarks)
    replica = _with_scorer(config, _replica(config, model), scorer)
    longest = sweep.most.resident / sweep.most.units
    memory = {"weights": replica.weights / replica.cards, "longest trace": longest * replica.kept / replica.cards}
    kind = config.machine.card.title
    foreseen = Estimate(
        holder=f"each of {replica.cards} x {kind}" if replica.cards > 1 else kind,
        memory=memory,
        moment="while it decodes",
        available=replica.memory / replica.cards,
        device=config.machine.device,
        remarks=remarks,
    )
    if foreseen.verdict == "does not fit":
        splits = _SPLITS if config.engine_kind.splits and not _on_cpus(config) else ()
        enough = [split for split in splits if _replica(config, model, split).cache >= longest]
        return replace(foreseen, remedies=tuple(f"resources.gpus: {split}" for split in enough[:1]))
    expected = _taken(config, replica, sweep.expected)
    most = _taken(config, replica, sweep.most)
    return replace(
        foreseen,
        seconds=expected.seconds,
        device_hours=expected.card_seconds / 3600,
        usd=_usd(config, expected, replica),
        tokens=sweep.expected.once.decoded,
        most_seconds=most.seconds,
        most_usd=_usd(config, most, replica),
        parts=tuple(_parts(config, sweep.expected, replica)),
        remarks=(*remarks, *_basis(config, replica, expected)),
    )


def _states(config: EvaluateConfig) -> Iterator[str]:
    """What is said of models whose layers keep states."""
    if isinstance(config.base, Reference) or config.base is None or not keeps_states(config.base):
        return
    yield (
        f"{config.model} has layers that keep a state in place of keys and values: forks may compute their prefix "
        "again, which is in neither time nor cost"
    )


def _lacking(config: EvaluateConfig) -> Iterator[str]:
    """What is said of models that vLLM's CPU build cannot import as it is installed."""
    if isinstance(config.base, Reference) or config.base is None or not needs_torchvision(config.base):
        return
    if config.engine_kind.library == "vllm" and not config.resources.gpus:
        yield (
            f"vLLM's class for {config.model} imports torchvision, which the list for CPUs has not: install its build "
            "for CPUs where replicas run"
        )


def _recommended(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> Iterator[str]:
    """How tokens will be drawn, where the checkpoint decides it."""
    if config.sampling is None or config.base is None:
        return
    made = inputs[config.base.step].output if isinstance(config.base, Reference) else None
    folder = made if isinstance(config.base, Reference) else folder_of(config.base)
    if folder is None:
        yield f"sampling: recommended is what {config.model} will say in its {FILE}"
        return
    try:
        yield f"sampling: recommended is {described(read(folder))}"
    except NothingRecommended as error:
        yield f"sampling: recommended: {error}"


def _saving(config: EvaluateConfig, work: Workload) -> str:
    alone, once = sum(tokens.decoded for tokens in work.alone.values()), max(work.once.decoded, 1)
    return (
        f"one pass decodes {once:,.0f} tokens; {len(work.alone)} policies one by one would decode {alone:,.0f}, "
        f"{alone / once:.1f} times as many"
    )


def _parts(config: EvaluateConfig, work: Workload, replica: PlannedReplica | None = None) -> Iterator[Part]:
    """Each policy by itself, on replicas of its own; without a `replica` only its tokens are known."""
    total = max(sum(tokens.decoded for tokens in work.alone.values()), 1)
    for policy in walked(config.policies):
        tokens = work.alone[policy.name]
        part = Part(printable(policy.name), tokens.decoded, tokens.decoded / total)
        if replica is not None:
            alone = _taken(config, replica, work.only(policy.name))
            hours, usd = alone.card_seconds / 3600, _usd(config, alone, replica)
            part = replace(part, seconds=alone.seconds, device_hours=hours, usd=usd)
        yield part


def _basis(config: EvaluateConfig, replica: PlannedReplica, expected: Taken) -> Iterator[str]:
    """What time and cost are reckoned with."""
    if not config.resources.machine and not _on_cpus(config):
        yield f"resources.machine is not set: {DEFAULT_GPU} is assumed"
    where = config.machine
    bandwidth = f"{replica.share:.0%} of {where.card.bandwidth / 1e9:,.0f} GB/s each"
    cards = f"{expected.replicas * replica.held} {config.machine.device}s"
    yield f"{cards} in {expected.replicas} replicas of {expected.at_once} traces at once; {bandwidth}; {where.price}"
    if config.judge is not None:
        yield "judging is not in it"


def _architecture(model: Reference | LocalPath | str | None, inputs: Mapping[str, Upcoming]) -> Architecture:
    """The shapes of a model. Raises UnknownArchitecture when nothing here tells them."""
    if isinstance(model, Reference):
        made = inputs[model.step]
        if made.output is not None:
            return find(str(made.output))
        if isinstance(made.forecast, ModelForecast):
            return made.forecast.architecture
        raise UnknownArchitecture(f"step {model.step} has not made it yet")
    assert model is not None, "only a server that chats does without"
    return find(model)


def _scorer(config: EvaluateConfig, inputs: Mapping[str, Upcoming]) -> tuple[Architecture | None, str]:
    """The shapes of the model that scores, where one does; or why they are not known."""
    if config.search is None or config.search.scorer.model is None:
        return None, ""
    try:
        return _architecture(config.search.scorer.model, inputs), ""
    except UnknownArchitecture as error:
        return None, str(error)


def _window(config: EvaluateConfig, scorer: Architecture | None) -> float:
    """Tokens of a prompt that the scorer's model takes; 0 where no model scores."""
    if config.search is None or config.search.scorer.model is None:
        return 0
    return config.search.scorer.window or (scorer and scorer.context) or math.inf


def _with_scorer(config: EvaluateConfig, replica: PlannedReplica, scorer: Architecture | None) -> PlannedReplica:
    """With what scores beside it: on cards of its own, or on a share of the replica's memory and of their time."""
    if config.search is None or not config.loads_scorer:
        return replica
    resources, record, apart = config.resources.scorer, config.search.scorer.record, bool(config.scorers_apart)
    shared = 0.0 if resources.gpus or apart or _on_cpus(config) else resources.memory
    replica = replace(replica, given=CACHED - shared)
    if scorer is None:
        return replica
    gpus = resources.gpus if apart else config.resources.gpus
    engine = ENGINES[chosen(config.search.scorer.engine, gpus) if record.likelihoods else "vllm"]
    program = engine.on_gpus if gpus else engine.on_cpus
    assert program is not None, "a scorer that cannot run there is refused"
    scoring = replace(
        replica,
        model=scorer,
        program=program,
        cards=resources.gpus or (resources.cpus if apart else replica.cards),
        given=CACHED if resources.gpus or apart else resources.memory,
    )
    return replace(replica, scorer=PlannedScorer(scoring, resources.gpus, caches=record.likelihoods))


def _scoring(config: EvaluateConfig, work: Workload, unknown: str) -> Iterator[str]:
    """What the scorer is asked."""
    if config.search is None or not work.once.scores:
        return
    where = "on cards of its own" if config.resources.scorer.gpus else "beside the engine"
    if config.scorers_apart:
        where = f"in {config.scorers_apart} replicas of its own"
    yield f"the scorer reads {work.once.scored:,.0f} tokens in {work.once.scores:,.0f} prompts, {where}"
    if unknown:
        yield f"time and cost of the scorer are not in it: {unknown}"


def _context(config: EvaluateConfig, model: Architecture | None) -> int:
    if isinstance(config.context_length, int):
        return config.context_length
    return auto_context((model.context if model else None) or MOST_AUTO)


def _on_cpus(config: EvaluateConfig) -> bool:
    return config.machine.device == "core"


def _replica(config: EvaluateConfig, model: Architecture, cards: int | None = None) -> PlannedReplica:
    """One replica, on as many cards as the config says, or on `cards`."""
    resources, on_cpus, where = config.resources, _on_cpus(config), config.machine
    count = cards or (resources.cpus if on_cpus else max(1, resources.gpus))
    program = config.engine_kind.on_gpus if resources.gpus else config.engine_kind.on_cpus
    assert program is not None, "a config with an engine that cannot run on its devices is refused"
    return PlannedReplica(
        model=model,
        card=replace(where.card, memory=where.memory_for(count, resources.replicas.max) / count),
        cards=count,
        size={"float32": 4, "bfloat16": 2, "auto": 4 if on_cpus else 2}[config.dtype],
        program=program,
        share=resources.mbu or BANDWIDTH_SHARE,
    )


def _taken(config: EvaluateConfig, replica: PlannedReplica, work: Workload) -> Taken:
    most = config.machine.at_once(replica.held, config.resources.replicas.max)
    needed = taken(replica, work, config.resources.in_flight, most)
    return replace(needed, card_seconds=needed.card_seconds * _held(config, needed, replica) / _within(needed, replica))


def _within(what: Taken, replica: PlannedReplica) -> float:
    """Cards of all replicas of the model."""
    return what.replicas * replica.held


def _held(config: EvaluateConfig, what: Taken, replica: PlannedReplica) -> float:
    """Cards of all replicas, and of scorers that are placed apart, which are as many as the config says."""
    if not config.scorers_apart:
        return _within(what, replica)
    return what.replicas * replica.cards + config.devices(config.scorer_demand()) * config.scorers_apart


def _usd(config: EvaluateConfig, what: Taken, replica: PlannedReplica) -> float:
    """What the cards cost for as long as their replicas are there; machines that are rented whole are paid whole."""
    held = _held(config, what, replica)
    return config.machine.usd(held, what.card_seconds / held)


def _sweep(config: EvaluateConfig, inputs: Mapping[str, Upcoming], context: int, window: float) -> _Sweep | None:
    """The decoding of all tasks; None where it is not known how many items one has."""
    by_root: dict[Root, list[Policy]] = {}
    for policy in walked(config.policies):
        by_root.setdefault(policy.root, []).append(policy)
    answer = context // 8 if config.max_answer_tokens == "auto" else config.max_answer_tokens
    expected, most, words = Workload(), Workload(), []
    for task in config.tasks:
        made = inputs[task.path.step].forecast if isinstance(task.path, Reference) else None
        items, lengths = _items(task, inputs), expected_lengths(task, config, made)
        if items is None:
            return None
        prompt = min(_PROMPT, context // 8)
        room = Room(context - prompt - answer, answer)
        for root, policies in by_root.items():
            reads_answers = config.search is not None and config.search.scorer.record.reads_answers
            mean, limit = _sample(tuple(policies), room, prompt, lengths, window, reads_answers)
            expected += mean.times(items * config.samples_of(root))
            most += limit.times(items * config.samples_of(root))
        thinking = (
            f"thinking {lengths.natural:,.0f} tokens in the mean ({lengths.source}), {lengths.extension:,.0f} more for "
            "each extension"
            if lengths.natural
            else f"thinking is part of the answer ({lengths.source})"
        )
        steps = f", steps of {lengths.step:,.0f}" if config.search is not None and lengths.natural else ""
        words.append(f"{task.name}: {items} items, {thinking}{steps}; answers {min(lengths.answer, answer):,.0f}")
    return _Sweep(expected, most, tuple(words))


@lru_cache(maxsize=64)
def _sample(
    policies: tuple[Policy, ...],
    room: Room,
    prompt: int,
    lengths: ThinkingForecast,
    window: float,
    reads_answers: bool,
) -> tuple[Workload, Workload]:
    """What a sample of an item takes in the mean, and at most. Remembered: hundreds of sweeps may differ in little."""
    injected = {string: len(string[:1]) for policy in policies for string in policy.route.strings}
    tree = plant(policies, injected, 1, reads_answers=reads_answers)
    lengths = lengths if policies[0].root.thinks else unmarked(lengths)
    most = at_most(tree, policies, room, prompt, lengths.natural > 0, window)
    return item(tree, policies, room, prompt, lengths, window), most


def _items(task: TaskConfig, inputs: Mapping[str, Upcoming]) -> int | None:
    """How many items a task has, as far as that is known before it is loaded."""
    if not isinstance(task.path, Reference):
        return task.known_items()
    made = inputs[task.path.step].forecast
    if not isinstance(made, DatasetForecast) or made.questions is None:
        return task.items
    return min(made.questions, task.items or made.questions)


def expected_lengths(task: TaskConfig, config: EvaluateConfig, made: object | None) -> ThinkingForecast:
    """What is assumed of a task's traces; `made` is the forecast of the step that makes its items."""
    known = ASSUMED
    if isinstance(task.path, Reference):
        known = (isinstance(made, DatasetForecast) and made.thinking) or ASSUMED
    elif task.benchmark is not None:
        known = ASSUMED if task.benchmark.thinking_tokens is None else published(task.benchmark.thinking_tokens)
    elif task.generated:
        known = LETTERS
    given = config.resources.expected_thinking_tokens
    if config.template.style == UNMARKED:
        answer = known if given is None else replace(known, answer=given, source="resources.expected_thinking_tokens")
        return unmarked(answer)
    return known if given is None else scaled(known, given)
