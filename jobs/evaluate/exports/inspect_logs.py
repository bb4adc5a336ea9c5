"""A sweep as logs of Inspect (inspect.aisi.org.uk), which its viewer and its data frames open: one log for each policy
on each task.

An ``.eval`` file is a zip archive of JSON: ``header.json`` has all but the samples, each sample is a file of its own,
and ``summaries.json`` has a line of each, so nothing has to fit in memory but one sample and the summaries. The fields
are those of schema version 2 (``inspect log schema``); the real reader opens them in ``tests/faults/test_exports.py``.

A sample's score is ``verdict``: C or I, N where no answer was found in it. One that could not be graded has no score,
so Inspect counts it among those that are not scored and not among the wrong.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.evaluate.exports.samples import ExportedSample, ScoredPolicy, scored_policies
from jobs.evaluate.report.results import FinishedSweep
from orchestrator.job.record import FinishedStep
from orchestrator.store.records import read_record

SCORES = {"correct": "C", "wrong": "I", "no_answer": "N"}
STOPS = {"stop": "stop", "length": "max_tokens", "context": "model_length"}
_LEDGER = (
    *("thinking_tokens", "injected_tokens", "answer_tokens", "thinking_end", "answer_end"),
    *("extensions_used", "extensions_skipped", "continued", "tries", "verdict"),
)


def write(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``<task>_<policy>.eval`` for each policy to `folder`."""
    sweep = FinishedSweep(step)
    for scored in scored_policies(sweep):
        with zipfile.ZipFile(folder / f"{scored.task}_{scored.slug}.eval", "w", zipfile.ZIP_DEFLATED) as log:
            _write(log, scored)


def _write(log: zipfile.ZipFile, scored: ScoredPolicy) -> None:
    spec = _spec(scored)
    _put(log, "_journal/start.json", {"version": 2, "eval": spec, "plan": _plan(scored)})
    summaries = []
    for row in scored.rows():
        sample = _sample(scored, row)
        _put(log, f"samples/{sample['id']}_epoch_{sample['epoch']}.json", sample)
        brief = {name: sample[name] for name in ("id", "epoch", "target", "scores", "model_usage", "metadata")}
        summaries.append({**brief, "input": sample["input"][:1024], "completed": True, "message_count": 2})
    _put(log, "summaries.json", summaries)
    header = {
        "version": 2,
        "status": "success",
        "eval": spec,
        "plan": _plan(scored),
        "results": _results(scored, summaries),
        "stats": {"started_at": spec["created"], "completed_at": spec["created"], "model_usage": _usage(scored)},
    }
    _put(log, "header.json", header)


def _put(log: zipfile.ZipFile, name: str, value: Any) -> None:
    # A fixed date: the same sweep gives the same bytes.
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    log.writestr(entry, json.dumps(value, ensure_ascii=False))


def finished(step: FinishedStep) -> datetime.datetime:
    """When the step's result was whole."""
    record = read_record(step.context.storage / "done.json") or {}
    return datetime.datetime.fromtimestamp(int(record.get("time", 0)), datetime.UTC)


def _id(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:22]


def _spec(scored: ScoredPolicy) -> dict[str, Any]:
    sweep = scored.sweep
    said: Mapping[str, Any] = sweep.step.provenance or {}
    fingerprint = sweep.context.fingerprint
    task_id = _id(fingerprint, scored.task)
    drawn = sweep.sampling
    generate = {name: drawn[name] for name in ("temperature", "top_p") if name in drawn}
    commit = str(said.get("commit") or "").partition(" ")
    return {
        "eval_id": _id(fingerprint, scored.task, scored.policy),
        "run_id": _id(fingerprint),
        "created": finished(sweep.step).isoformat(),
        "task": scored.task,
        "task_id": task_id,
        "task_version": sweep.config.VERSION,
        "task_args": {"policy": scored.policy, **scored.setting},
        "solver": scored.policy,
        "tags": [f"sweep:{sweep.context.experiment}/{sweep.name}", f"policy:{scored.policy}"],
        "dataset": {
            "name": scored.task,
            "samples": scored.point["items"],
            "sample_ids": scored.items,
            "shuffled": False,
        },
        "model": sweep.model,
        "model_generate_config": {**generate, "seed": sweep.config.seed},
        "config": {"epochs": sweep.config.samples},
        "packages": dict(said.get("packages") or {}),
        "scorers": [{"name": "verdict"}],
        "metadata": {"step": sweep.name, "fingerprint": fingerprint, "policy": scored.policy},
        **(
            {"revision": {"type": "git", "origin": "", "commit": commit[0], "dirty": bool(commit[2])}}
            if commit[0]
            else {}
        ),
    }


def _plan(scored: ScoredPolicy) -> dict[str, Any]:
    return {"name": "plan", "steps": [{"solver": "budget_forcing", "params": scored.setting}]}


def _sample(scored: ScoredPolicy, row: ExportedSample) -> dict[str, Any]:
    model, question = scored.sweep.model, scored.question(row["item"])
    tokens = row["thinking_tokens"] - row["injected_tokens"] + row["answer_tokens"]
    usage = {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}
    usage["reasoning_tokens"] = row["thinking_tokens"] - row["injected_tokens"]
    scores: dict[str, Any] = {}
    if row["verdict"] in SCORES:
        scores["verdict"] = {
            "value": SCORES[row["verdict"]],
            "answer": row["extracted"],
            "explanation": f"found by the rule {row['rule']}",
            "metadata": {"meaning": row.get("meaning")},
        }
    answer = {"role": "assistant", "content": row["answer"], "source": "generate", "model": model}
    return {
        "id": row["item"],
        "epoch": row["sample"] + 1,
        "input": question,
        "target": row["gold"],
        "messages": [{"role": "user", "content": question, "source": "input"}, answer],
        "output": {
            "model": model,
            "choices": [{"message": answer, "stop_reason": STOPS.get(row["answer_end"], "unknown")}],
            "usage": usage,
        },
        "scores": scores,
        "metadata": {name: row[name] for name in _LEDGER if name in row},
        "model_usage": {model: usage},
    }


def _results(scored: ScoredPolicy, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    point = scored.point
    graded = sum(bool(each["scores"]) for each in summaries)
    return {
        "total_samples": len(summaries),
        "completed_samples": len(summaries),
        "scores": [
            {
                "name": "verdict",
                "scorer": "verdict",
                "scored_samples": graded,
                "unscored_samples": len(summaries) - graded,
                "metrics": {name: {"name": name, "value": value} for name, value in _numbers(point)},
                "metadata": dict(point),
            }
        ],
    }


def _numbers(point: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What the point came to: accuracy first, as Inspect shows the first."""
    for name in ("accuracy", *(name for name in point if name != "accuracy")):
        value = point[name]
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("k", "count"):
            yield name, value


def _usage(scored: ScoredPolicy) -> dict[str, Any]:
    point = scored.point
    thinking = point["thinking_tokens"] - point["injected_tokens"]
    tokens = round(point["samples"] * (thinking + point["answer_tokens"]))
    return {scored.sweep.model: {"input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}}
