"""Publishing what a finished step made."""

from __future__ import annotations

import click

from orchestrator.command_line import Refused


@click.command()
@click.argument("step")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Everyone may read it; else it is private.")
def push(step: str, name: str, public: bool) -> None:
    """Put what a finished step made on Hugging Face's hub: a dataset or a model.

    STEP is its folder (runs/s1k-e70df17c11b46128). The token is HF_TOKEN's, or what `hf auth login` left.
    """
    from orchestrator.finished import finished
    from orchestrator.job.errors import StepError
    from orchestrator.push import push as put
    from orchestrator.registry import JOBS
    from orchestrator.store.records import DamagedRecord
    from orchestrator.tracking.tracker import TrackingError

    try:
        with finished(step, "") as (kind, made):
            click.echo(put(JOBS[kind].config.PRODUCES, made.output, name, f"From {made.name}", public))
    except (StepError, TrackingError, DamagedRecord) as error:
        raise Refused(str(error)) from None
