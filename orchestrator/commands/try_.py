"""A model to try by hand: questions in the terminal, steered while it thinks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.command_line import SET, Refused, prepare

if TYPE_CHECKING:
    from orchestrator.job.context import StepContext
    from orchestrator.job.record import Trier
    from orchestrator.plan import PlannedStep

MOST_TEMPERATURE = 10.0


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a temperature: give a number from 0 to {MOST_TEMPERATURE:g}")
    return value


@click.command("try")
@click.argument("target", metavar="MODEL|FILE")
@click.argument("step", required=False)
@SET
@click.option("--ask", metavar="QUESTION", help="Ask this, show what comes of it, and end.")
@click.option("--append", multiple=True, metavar="TEXT", help='With --ask: append it where thinking ends ("Wait").')
@click.option("--cut", multiple=True, type=click.IntRange(min=1), help="With --ask: cut it there and have it answered.")
@click.option("--budget", type=click.IntRange(min=1), help="Most tokens of thinking. Default: what the context holds.")
@click.option("--effort", help="How hard the model is told to think, where its chat template takes that.")
@click.option(
    "--temperature", type=click.FloatRange(0, MOST_TEMPERATURE), callback=_finite, help="Default: the step's, or 0."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of random numbers. Default: the step's, or 0.")
@click.option("--json", "as_json", is_flag=True, help="With --ask: a JSON line of each attempt.")
@click.option("--page", is_flag=True, help="Serve a page on this machine instead, and say its address.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the page. Default: any.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Add a JSON line of each attempt to it.")
@click.option("--template", default="auto", help="Of a MODEL: how it marks its thinking: think, s1, none …")
@click.option("--engine", default="auto", help="Of a MODEL: what decodes: transformers, vllm.")
@click.option("--gpus", type=click.IntRange(min=0), help="Of a MODEL: GPUs that it is split over. Default: 1 or none.")
@click.option("--system", help="Of a MODEL: what it is told before every question.")
def try_(
    target: str,
    step: str | None,
    overrides: tuple[str, ...],
    template: str,
    engine: str,
    gpus: int | None,
    system: str | None,
    page: bool,
    port: int,
    **asked: Any,
) -> None:
    """Ask a model in the terminal, watch it think, and steer it: append "Wait", cut it, fork it, compare.

    MODEL is a folder or a name on Hugging Face's hub. Of a FILE, STEP is a sweep, or a step that makes a model; without
    it, the last that can be tried.
    """
    from orchestrator.job.controllers import this_process_controls
    from orchestrator.job.errors import StepError
    from orchestrator.job.record import TryRequest

    this_process_controls(False)  # the model that is tried is in this process

    if asked["ask"] is None and (asked["as_json"] or asked["append"] or asked["cut"]):
        raise Refused("--json, --append and --cut go with --ask: give the question")
    fields: dict[str, Any] = {"template": template, "engine": engine, "resources": {"gpus": _gpus(gpus)}}
    if system:
        fields["system"] = system
    if Path(target).suffix in (".yaml", ".yml") or Path(target).is_file():
        trier, config, context, model = _of_file(Path(target), step, overrides)
    elif step is not None or overrides:
        raise Refused(f"{target} is a model: STEP and --set are for a FILE")
    else:
        trier, config, context, model = _of_model(target)
    try:
        trier(config, context, TryRequest(model=model, fields=fields, port=port if page else None, **asked))
    except StepError as error:
        raise Refused(f"{target}: {error}") from None


def _gpus(given: int | None) -> int:
    """As many as are asked for; else one, where this machine has any. Raises Refused."""
    import torch

    there = torch.cuda.device_count()
    if given is not None and given > there:
        raise Refused(f"--gpus: {given} is more than this machine has, which is {there}")
    return min(1, there) if given is None else given


def _any_trier() -> Trier:
    from orchestrator.registry import JOBS

    return next(trier for kind in JOBS if (trier := JOBS[kind].try_model) is not None)


def _of_model(model: str) -> tuple[Trier, None, StepContext, str]:
    from orchestrator.job.context import StepContext

    nowhere = Path("nowhere")  # nothing of it is kept
    return _any_trier(), None, StepContext("try", model, "", nowhere, nowhere), model


def _of_file(file: Path, name: str | None, overrides: tuple[str, ...]) -> tuple[Trier, Any, StepContext, str]:
    experiment, store, planned = prepare(file, overrides)
    item = _chosen(file, name, planned)
    from orchestrator.registry import JOBS

    trier = JOBS[item.step.kind].try_model
    needed = [item] if trier is None else list(item.inputs.values())
    if trier is not None:
        context = item.context(experiment, store)
        sources = {str(getattr(item.step.config, "model", None))}
        needed = [each for each in needed if f"${{{each.step.name}}}" in sources]
    if waiting := [each.step.name for each in needed if each.verdict != "done"]:
        raise Refused(f"{file}: {item.step.name}: the model of {', '.join(waiting)} is not there yet: run it first")
    if trier is not None:
        return trier, item.step.config, context, ""
    return _any_trier(), None, _taking(item), f"${{{item.step.name}}}"


def _taking(item: PlannedStep) -> StepContext:
    """The context of a step that would take the model of this one."""
    from orchestrator.job.context import StepContext, StepInput

    made = StepInput(item.step.name, item.fingerprint, item.folder.output, item.forecast)
    return StepContext("try", item.step.name, "", item.folder.path, item.folder.path, {item.step.name: made})


def _chosen(file: Path, name: str | None, planned: list[PlannedStep]) -> PlannedStep:
    from orchestrator.job.outputs import Model
    from orchestrator.registry import JOBS

    able = [
        item
        for item in planned
        if JOBS[item.step.kind].try_model is not None or issubclass(item.step.config.PRODUCES, Model)
    ]
    named = [item for item in able if name in (None, item.step.name)]
    if not named:
        names = ", ".join(item.step.name for item in able[:20])
        raise Refused(f"{file}: no step {name or ''} with a model to try; there are: {names or 'none'}")
    return named[-1]
