"""The model card of a fine-tuned model for Hugging Face's hub: how it was trained, and what it scored where.

The scores are the card's ``model-index``, which the hub shows as evaluation results: for each task, each policy of the
sweeps that took the model. Whoever reads one of them without the budget it was reached at is misled, so the metric's
name says it, and the value stands beside its interval in the table below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from jobs.evaluate.config import EvaluateConfig
from jobs.finetune.config import FinetuneConfig, RandomModel
from orchestrator.job.errors import StepError
from orchestrator.job.local_files import LocalPath
from orchestrator.job.record import FinishedStep
from orchestrator.job.references import Reference

MARKUP = "\\`*_[]<>|#"


def write(step: FinishedStep, folder: Path, takers: Sequence[FinishedStep] = ()) -> None:
    """Writes ``README.md``, to be uploaded with the model. Raises StepError where the card would not be valid."""
    sweeps = [each for each in takers if isinstance(each.config, EvaluateConfig)]
    rows = [(each, point) for each in sweeps for point in _points(each)]
    config = cast(FinetuneConfig, step.config)
    base = base_model(config)
    data = ModelCardData(
        base_model=base,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["test-time-scaling", "reasoning"],
        model_name=step.context.name,
        eval_results=[_result(each, point) for each, point in rows] or None,
    )
    text = f"---\n{data.to_yaml()}\n---\n\n{_text(step, base, rows)}"
    try:
        ModelCard(text)
    except ValueError as error:
        raise StepError(f"model-card: {error}") from error
    (folder / "README.md").write_text(text, encoding="utf-8")


def base_model(config: FinetuneConfig) -> str | None:
    """The hub's name of what was fine-tuned; None where it was a folder, or began at random."""
    return config.model if isinstance(config.model, str) else None


def _points(sweep: FinishedStep) -> Iterator[dict[str, Any]]:
    """Each policy on each task once."""
    seen = set()
    for curve in json.loads((sweep.context.output / "curves.json").read_text()):
        for point in curve["points"]:
            key = (point["task"], point["policy"], point.get("score", "accuracy"))
            if key[2] == "accuracy" and key not in seen and point["accuracy"] is not None:
                seen.add(key)
                yield point


def _result(sweep: FinishedStep, point: dict[str, Any]) -> EvalResult:
    tasks = cast(EvaluateConfig, sweep.config).tasks
    read = next((task.published for task in tasks if task.name == point["task"]), None)
    return EvalResult(
        task_type="text-generation",
        task_name=point["task"],
        dataset_type=point["task"] if read is None else read.dataset,
        dataset_name=point["task"],
        dataset_config=None if read is None else read.subset,
        dataset_split=None if read is None else read.split,
        dataset_revision=None if read is None else read.revision,
        metric_type="accuracy",
        metric_name=f"accuracy, {point['policy']} ({point['thinking_tokens']:,.0f} thinking tokens)",
        metric_value=round(100 * point["accuracy"], 2),
        metric_args={"policy": point["policy"], "items": point["items"], "samples": point["samples"]},
    )


def _text(step: FinishedStep, base: str | None, rows: Sequence[tuple[FinishedStep, dict[str, Any]]]) -> str:
    said = step.provenance or {}
    packages = ", ".join(f"{name} {version}" for name, version in (said.get("packages") or {}).items())
    source = cast(FinetuneConfig, step.config).model if base is None else base
    lines = [
        f"# {_cell(step.context.name)}",
        f"Fine-tuned from {_cell(_named(source))}, by the "
        f"step `{step.context.name}` (fingerprint `{step.context.fingerprint}`) of the experiment "
        f"`{step.context.experiment}`.",
    ]
    if rows:
        table = ["| task | policy | accuracy | 95% interval | thinking tokens | items |", "|:--|:--|--:|--:|--:|--:|"]
        for _, point in rows:
            interval = f"{100 * point['accuracy_low']:.1f} – {100 * point['accuracy_high']:.1f}"
            table.append(
                f"| {_cell(point['task'])} | {_cell(point['policy'])} | {100 * point['accuracy']:.1f} | {interval} | "
                f"{point['thinking_tokens']:,.1f} | {point['items']} |"
            )
        lines += ["## Accuracy against thinking", "\n".join(table)]
        lines.append(
            "Accuracies are in percent, their intervals for other items of the kind. A policy is how thinking "
            "was cut or extended: a budget in tokens, `auto` its natural end."
        )
    facts = [f"- commit: {said.get('commit') or 'not kept'}", f"- packages: {packages or 'not kept'}"]
    settings = json.dumps(step.config.model_dump(mode="json", exclude_unset=True), indent=2, ensure_ascii=False)
    lines += ["## Training", "\n".join(facts), f"```json\n{settings.replace('`', chr(92) + 'u0060')}\n```"]
    return "\n\n".join(lines) + "\n"


def _named(model: object) -> str:
    """What was fine-tuned."""
    if isinstance(model, Reference):
        return f"the step {model.step}"
    if isinstance(model, RandomModel):
        return f"random weights ({model.random}, {model.layers} layers, hidden size {model.hidden_size})"
    return model.path.name if isinstance(model, LocalPath) else str(model)


def _cell(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return "".join(f"\\{letter}" if letter in MARKUP else letter for letter in shown)
