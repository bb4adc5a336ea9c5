"""Rules replayed on what a sweep has: rows of its samples for each, as if it had been run. Decodes nothing.

A sweep with rules writes the answers that they look at to ``probes.parquet``. What a rule comes to is one of those
answers, with the tokens that it took to come there: a row of ``samples.parquet`` like any other policy's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.watching import OnlineRule
from jobs.evaluate.samples import SCHEMA
from jobs.evaluate.stopping import reading
from jobs.evaluate.stopping.choosing import chosen
from jobs.evaluate.stopping.probes import Ints, Stops
from jobs.evaluate.stopping.reading import ProbedTask
from jobs.evaluate.stopping.trace_rule import TraceRule
from jobs.evaluate.sweep.policies.stopping import CrossFitted, Stopped
from jobs.evaluate.sweep.policy import Policy, walked
from jobs.evaluate.sweep.prompts import Prompter
from orchestrator.job.errors import StepError

PROBES = "probes.parquet"
"""Beside the samples: the answers that rules look at, where there are rules."""


def rules(policies: Sequence[Policy]) -> list[Policy]:
    """Those that are replayed."""
    return [policy for policy in policies if isinstance(policy, Stopped | CrossFitted)]


def online(config: EvaluateConfig, prompter: Prompter) -> OnlineRule | None:
    """What a rule that runs needs to know; None where none does."""
    for policy in rules(config.policies) if config.online else ():
        assert isinstance(policy, Stopped), "one setting runs"
        if policy.rule.place is not None:  # decoding goes no further by itself
            return None
        assert isinstance(policy.rule, TraceRule), "what looks at one trace runs"
        cuts = tuple(probe.asked for probe in policy.probes if probe.asked is not None)
        mark = policy.probes[0].route.mark
        assert mark is not None, "each probe of a rule that runs has its mark"
        return OnlineRule(policy.rule, mark, cuts, prompter.answer)
    return None


def files(config: EvaluateConfig, samples: Path) -> dict[Path, Collection[str]]:
    """Where rows of what was decoded go, by the names of their policies; to the first, those of rules too."""
    replayed = rules(config.policies)
    names_by_file: dict[Path, Collection[str]] = {
        samples: [each.name for each in config.policies if each not in replayed]
    }
    if replayed:
        names_by_file[samples.with_name(PROBES)] = [leaf.name for leaf in in_order(walked(replayed))]
    return names_by_file


def tables(config: EvaluateConfig, samples: Path) -> Iterator[pa.Table]:
    """The rows of the config's rules, from the probes beside its samples."""
    replayed = rules(config.policies)
    if not replayed:
        return
    for task in reading.read(samples.with_name(PROBES), [leaf.name for leaf in in_order(walked(replayed))]):
        for frame in rows(task, replayed, config.seed):
            yield pa.Table.from_pandas(frame[SCHEMA.names], SCHEMA, preserve_index=False)


def rows(task: ProbedTask, policies: Sequence[Policy], seed: int) -> Iterator[pd.DataFrame]:
    """The rows of each rule, with the columns of the task's probes."""
    known: dict[Policy, Stops] = {}
    for policy in policies:
        if isinstance(policy, CrossFitted):
            yield _rows(task, policy, _chosen(policy, known, settings(task, policy, seed, known)))
        elif isinstance(policy, Stopped):
            known[policy] = _stops(task, policy)
            yield _rows(task, policy, known[policy])


def in_order(leaves: Sequence[Policy]) -> list[Policy]:
    """Probes in the order of their tokens."""
    return sorted(leaves, key=lambda leaf: leaf.place)


def _stops(task: ProbedTask, policy: Stopped) -> Stops:
    """What a rule comes to, with the columns of all probes of the task."""
    rule, samples = policy.rule, task.rows.shape[1]
    if lacking := rule.needs - task.probes.signals.keys():
        raise StepError(
            f"stopping: {policy.rule_name} needs {' and '.join(sorted(lacking))} of each probe, which this sweep "
            "did not keep: give the step this rule under stopping, and run it"
        )
    if samples < rule.least:
        raise StepError(f"stopping: {policy.name} needs {rule.least} samples of an item, and this sweep has {samples}")
    columns = np.array(task.columns([leaf.name for leaf in policy.leaves]))
    stops = rule.stops(task.probes.of(columns))
    return Stops(stops.sample, columns[stops.probe], stops.thinking, stops.answers, stops.looked_at)


def settings(task: ProbedTask, policy: CrossFitted, seed: int, known: Mapping[Policy, Stops] | None = None) -> Ints:
    """The number of the candidate that is taken for each item, ``[items]``; `known` is what they come to."""
    of_all = [_stops(task, each) if known is None else known[each] for each in policy.candidates]
    return chosen([(task.probes, stops) for stops in of_all], policy.tolerance, seed)


def _chosen(policy: CrossFitted, known: Mapping[Policy, Stops], taken: Ints) -> Stops:
    items = np.arange(len(taken))
    of_all = [known[each] for each in policy.candidates]
    fields = ("sample", "probe", "thinking", "answers", "looked_at")
    return Stops(*(np.stack([getattr(stops, name) for stops in of_all])[taken, items] for name in fields))


def _rows(task: ProbedTask, policy: Policy, stops: Stops) -> pd.DataFrame:
    items = np.arange(len(task.items))[:, None]
    frame = task.frame.take(task.rows[items, stops.sample, stops.probe].ravel())
    runs = np.broadcast_to(np.arange(stops.sample.shape[1]), stops.sample.shape)
    return frame.assign(
        policy=pd.Categorical([policy.name] * len(frame)),
        sample=runs.ravel(),
        thinking_tokens=stops.thinking.ravel(),
        answer_tokens=stops.answers.ravel(),
        tries=stops.looked_at.ravel(),
        asked=None,  # which its probes were, and it was not
    )
