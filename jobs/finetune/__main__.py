"""One ``finetune`` step of an experiment under torchrun: the same loop, in a gang that Ray has no part in.

    torchrun --nproc-per-node 8 -m jobs.finetune experiments/s1/finetune.yaml --step s1

The workers are those that torchrun starts, on as many nodes as it is told; ``resources.workers`` does not count. The
step lies in the store as any other: it continues from its last checkpoint, and ``python -m orchestrator run`` finds it
done and tells MLflow about it. What it takes must be done before. Exit status: 0 done, 1 failed, 2 bad input.

An entrypoint beside ``orchestrator``'s own, so the one place of the job that knows experiments and stores.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import click

from jobs.finetune.config import FinetuneConfig
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.plan import PlannedStep, plan
from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease
from orchestrator.store.records import write_json_atomically
from orchestrator.store.step_folders import Store
from orchestrator.store.step_leases import heartbeat, leased
from orchestrator.store.storage import storage_path

FAILED, BAD_INPUT = 1, 2
_LAST_WORD = 10.0
"""Seconds that worker 0 has to say why all end."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--step", "name", help="The finetune step; needed where there are several.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value: steps.s1.epochs=1.")
def main(file: Path, name: str | None, overrides: tuple[str, ...]) -> None:
    """Train one finetune step of the experiment FILE. Started by torchrun."""
    if "WORLD_SIZE" not in os.environ:
        raise click.UsageError("start it with torchrun: torchrun --nproc-per-node 2 -m jobs.finetune FILE")
    try:
        planned, config, context = _chosen(file, name, overrides)
    except (ExperimentError, StepError, StoreError) as error:
        _end(str(error), BAD_INPUT)
    if planned.verdict == "done":
        _say(f"{planned.step.name}: done already, in {planned.folder.path}")
        return
    try:
        _train(planned, config, context)
    except (StepError, StoreError) as error:
        _end(f"{planned.step.name}: {error}", FAILED)


def _end(message: str, status: int) -> NoReturn:
    """Ends this worker; worker 0 says why.

    torchrun ends all workers as soon as one has ended, so the others leave the first word to worker 0.
    """
    _say(message)
    if int(os.environ["RANK"]):
        time.sleep(_LAST_WORD)
    # Not sys.exit: other workers wait in collective operations, and torch would wait for them.
    os._exit(status)


def _chosen(
    file: Path, name: str | None, overrides: tuple[str, ...]
) -> tuple[PlannedStep, FinetuneConfig, StepContext]:
    """The step, its config for the workers that there are, and its context. Raises StepError where it cannot run, and
    StoreError where the store does not answer."""
    experiment = load(file, overrides)
    store = Store(storage_path(experiment.store))
    store.check_reachable()
    everything = {step.step.name: step for step in plan(experiment, store)}
    names = [each for each, step in everything.items() if isinstance(step.step.config, FinetuneConfig)]
    chosen = names if name is None else [name]
    if len(chosen) != 1 or chosen[0] not in names:
        raise StepError(f"{file}: name one finetune step with --step: it has {', '.join(names) or 'none'}")
    planned = everything[chosen[0]]
    if waiting := [target for target in planned.inputs if everything[target].verdict != "done"]:
        raise StepError(f"{planned.step.name}: takes the output of {', '.join(waiting)}, not there yet: run it first")
    config = planned.step.config
    assert isinstance(config, FinetuneConfig)
    workers = {"workers": int(os.environ["WORLD_SIZE"]), "min_workers": None}
    config = config.model_copy(update={"resources": config.resources.model_copy(update=workers)})
    if problems := list(config.problems()):
        raise StepError("\n".join(f"{'.'.join(map(str, problem.field))}: {problem.message}" for problem in problems))
    return planned, config, planned.context(experiment, store)


def _train(planned: PlannedStep, config: FinetuneConfig, context: StepContext) -> None:
    """Does the step. Raises StepError for what its user can put right, and StoreError when another run has it."""
    import torch
    import torch.distributed as dist

    from jobs.finetune.assignment import BACKENDS, DATA, assign, fetch
    from jobs.finetune.network import choose, nodes
    from jobs.finetune.prepare import prepare
    from jobs.finetune.worker import work

    device = torch.device("cpu")
    if config.resources.gpus_per_worker:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    choose(os.environ["MASTER_ADDR"], nodes=nodes())
    assignment = assign(config, context)
    if int(os.environ["RANK"]) == 0:
        fetch(assignment)
    dist.init_process_group(BACKENDS[device.type])
    folder, lease = planned.folder, Lease.by_this_process(uuid.uuid4().hex[:8])
    refusal: list[str | None] = [None]
    with ExitStack() as held:
        if dist.get_rank() == 0:
            try:
                folder.create(planned.identity)
                # As ``orchestrator run`` does: neither starts what the other is doing.
                held.enter_context(leased([folder], lease))
                held.enter_context(heartbeat([folder], lease))
                folder.unmark_done()
                write_json_atomically(folder.path / "config.json", config.model_dump(mode="json"))
                folder.write_status(state="running", attempt=0, started=time.time(), finished=None, error=None)
                assignment.checkpoints.check_writable()
                prepare(config, assignment.context, assignment.data)
                context.share(DATA)
            except (StepError, StoreError) as error:
                refusal = [str(error)]
        dist.broadcast_object_list(refusal, src=0)
        if refusal[0] is not None:
            raise StepError(refusal[0])
        work(assignment, device)
        if dist.get_rank() == 0:
            assignment.checkpoints.remove()
            context.unshare(DATA)
            folder.mark_done()
            folder.write_status(state="done", finished=time.time(), error=None)
            _say(f"{planned.step.name}: done, in {folder.output}")
    dist.destroy_process_group()


def _say(text: str) -> None:
    """On one worker: all of them know it."""
    if os.environ["RANK"] == "0":
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
