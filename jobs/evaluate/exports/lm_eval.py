"""A sweep as results of EleutherAI's lm-evaluation-harness: for each policy a folder such as its options
``--output_path`` and ``--log_samples`` leave, for what reads those.

Each task has the metric ``acc,none`` with its standard error over items, and beside it our interval and mean tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.evaluate.exports.inspect_logs import finished
from jobs.evaluate.exports.samples import ExportedSample, ScoredPolicy, scored_policies
from jobs.evaluate.report.results import FinishedSweep
from jobs.evaluate.stats.outcomes import Outcomes, read
from orchestrator.job.record import FinishedStep

FIELDS = ("accuracy_low", "accuracy_high", "thinking_tokens", "answer_tokens", "forced_share", "no_answer_share")


def write(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``<policy>/results_<time>.json`` and ``<policy>/samples_<task>_<time>.jsonl`` to `folder`."""
    sweep = FinishedSweep(step)
    outcomes = {each.task: each for each in read(sweep.samples)}
    time = finished(step)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S.000000")
    by_policy: dict[str, list[ScoredPolicy]] = {}
    for scored in scored_policies(sweep):
        by_policy.setdefault(scored.slug, []).append(scored)
    for slug, members in by_policy.items():
        (folder / slug).mkdir(exist_ok=True)
        for scored in members:
            with (folder / slug / f"samples_{scored.task}_{stamp}.jsonl").open("w", encoding="utf-8") as lines:
                for number, row in enumerate(scored.rows()):
                    lines.write(json.dumps(_sample(scored, number, row), ensure_ascii=False) + "\n")
        record = _results(sweep, members, outcomes) | {"date": time.timestamp()}
        (folder / slug / f"results_{stamp}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def standard_error(outcomes: Outcomes, policy: str) -> float | str:
    """Of the accuracy, over items; of fewer than two what the harness writes where there is none."""
    values = outcomes.shares.graded.values[:, outcomes.policies.index(policy)]
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else "N/A"


def _results(sweep: FinishedSweep, members: list[ScoredPolicy], outcomes: dict[str, Outcomes]) -> dict[str, Any]:
    config, policy = sweep.config, members[0].policy
    said = sweep.step.provenance or {}
    return {
        "results": {
            each.task: {
                "name": each.task,
                "alias": each.task,
                "sample_len": each.point["items"],
                "acc,none": each.point["accuracy"],
                "acc_stderr,none": standard_error(outcomes[each.task], each.policy),
                **{f"{name},none": each.point[name] for name in FIELDS if each.point.get(name) is not None},
            }
            for each in members
        },
        "group_subtasks": {each.task: [] for each in members},
        "configs": {
            each.task: {
                "task": each.task,
                "dataset_path": str(task.dataset or task.path or task.name),
                "output_type": "generate_until",
                "repeats": config.samples,
                "num_fewshot": 0,
                "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
                "generation_kwargs": {**sweep.sampling, "max_answer_tokens": config.max_answer_tokens},
                "metadata": {"version": config.VERSION, "policy": each.policy, **each.setting},
            }
            for each in members
            for task in config.tasks
            if task.name == each.task
        },
        "versions": {each.task: config.VERSION for each in members},
        "n-shot": {each.task: 0 for each in members},
        "higher_is_better": {each.task: {"acc": True} for each in members},
        "n-samples": {
            each.task: {"original": each.point["items"], "effective": each.point["items"]} for each in members
        },
        "config": {
            "model": config.engine_name,
            "model_args": {"pretrained": sweep.model, "dtype": config.dtype, "policy": policy},
            "random_seed": config.seed,
        },
        "git_hash": said.get("commit"),
        "model_name": sweep.model,
        "model_source": config.engine_name,
        "total_evaluation_time_seconds": str(sweep.step.seconds or 0.0),
    }


def _sample(scored: ScoredPolicy, number: int, row: ExportedSample) -> dict[str, Any]:
    question = scored.question(row["item"])
    right = {"correct": 1.0, "wrong": 0.0, "no_answer": 0.0}.get(row["verdict"])
    doc = {"id": row["item"], "question": question, "answer": row["gold"]}
    return {
        "doc_id": number,
        "doc": doc,
        "target": row["gold"],
        "arguments": {"gen_args_0": {"arg_0": question, "arg_1": {"policy": scored.policy}}},
        "resps": [[row["answer"]]],
        "filtered_resps": [row["extracted"]],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False)),
        "prompt_hash": _hash(question),
        "target_hash": _hash(row["gold"]),
        "acc": right,
        "sample": row["sample"],
        "verdict": row["verdict"],
        "thinking_tokens": row["thinking_tokens"],
        "answer_tokens": row["answer_tokens"],
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
