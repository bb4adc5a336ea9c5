"""A first experiment file, from four questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.command_line import Refused, called

if TYPE_CHECKING:
    from orchestrator.experiment import Experiment

SCHEMA = "schema.json"


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default="experiment.yaml")
@click.option("--model", prompt="Which model (a name on Hugging Face's hub, or a folder)", help="Hub name or folder.")
@click.option(
    "--questions",
    prompt="Which questions (a benchmark such as math500, or a file with id, question and answer)",
    help="A benchmark, or a JSONL or CSV file.",
)
@click.option(
    "--columns",
    default="",
    help="What columns of the file are called otherwise: question=problem,answer=solution. Rows without an id are "
    "numbered.",
)
@click.option(
    "--budgets",
    default="512, 1024, 2048, auto",
    prompt="Which budgets of thinking tokens (auto: what the context leaves)",
    help="Comma between them.",
)
@click.option(
    "--strings", default="Wait", prompt="Which strings to append where it stops (none: -)", help="Comma between them."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(file: Path, model: str, questions: str, columns: str, budgets: str, strings: str, force: bool) -> None:
    """Ask four questions, and write an experiment that plans: how accuracy grows with thinking, and with "Wait".

    What is given as an option is not asked.
    """
    import json

    from orchestrator.complaints import ExperimentError
    from orchestrator.experiment import load
    from orchestrator.first_experiment import text
    from orchestrator.preflight import checked
    from orchestrator.schema import schema
    from orchestrator.store.errors import StoreError

    if file.exists() and not force:
        raise Refused(f"{file}: is there already: give another name, or --force")
    before = file.read_text() if file.exists() else None
    schema_file = file.with_name(SCHEMA)
    gpus = any(Path("/dev").glob("nvidia[0-9]*"))

    def write(template: str) -> Experiment:
        given = text(file.stem, model.strip(), questions.strip(), columns, budgets, strings, template, SCHEMA, gpus)
        file.write_text(given)
        experiment = load(file)
        checked(experiment, starts=True)
        return experiment

    try:
        try:
            experiment = write("auto")
        except ExperimentError as error:
            if not all(".template: auto " in each.message for each in error.complaints):
                raise
            experiment = write("plain-think")
    except ValueError as error:
        raise Refused(str(error)) from None
    except (ExperimentError, StoreError) as error:
        if before is None:
            file.unlink()
        else:
            file.write_text(before)
        raise Refused(f"nothing was written:\n{error}") from None
    file.chmod(0o755)
    schema_file.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
    (step,) = experiment.steps.values()
    click.echo(f"{file}: {step.config.describe()}. Next: {called()} plan {file}")
