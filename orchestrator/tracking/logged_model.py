"""The models that training made, as MLflow's logged models: listed with their experiment, beside the runs they came of.

What MLflow gets is the lineage, not the weights: they stay where the step wrote them, which is told among the params.
So a model is one of those that MLflow calls external. Like its run it is a mirror of the store: found by the run's tag,
made when it is not there, and made anew when the store says otherwise or the run was replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.job.tracked_run import ModelRecord
from orchestrator.store.records import read_as

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

DIGEST_TAG = "tracked.model"
"""The digest of what was told of the model."""
EXTERNAL_TAG = "mlflow.model.isExternal"
"""MLflow's own, for a model whose files it does not have."""

_FACT_LENGTH = 5000
"""Characters that MLflow takes of a param of a model."""


@dataclass(frozen=True)
class MadeModel:
    """What the store says of a model that came of a run (``TrackedRun.made_model``)."""

    name: str
    kind: str
    facts: Mapping[str, str]
    """What it came from, and where it is."""

    @classmethod
    def read(cls, folder: Path) -> MadeModel | None:
        """The model of a tracked run's folder; None where none came of it. Raises DamagedRecord."""
        path = folder / "model.json"
        if not path.exists():
            return None
        record = read_as(path, ModelRecord)
        return cls(record["name"], record["kind"], {key: _cut(value) for key, value in record["facts"].items()})

    @property
    def digest(self) -> str:
        content = json.dumps([self.name, self.kind, dict(self.facts)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def log_model(client: MlflowClient, model: MadeModel, run: Run, identity: Mapping[str, str]) -> None:
    """Makes the server have `model` once, as an output of `run`, with the tags `identity`, which no other model has.

    Where a server went away in the middle of a former call, this one does the rest.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tags = {**identity, DIGEST_TAG: model.digest, EXTERNAL_TAG: "true"}
    there: LoggedModel | None = None
    for logged in _of(client, run.info.experiment_id, identity):
        if there is None and logged.source_run_id == run.info.run_id and logged.tags.get(DIGEST_TAG) == model.digest:
            there = logged
        else:
            client.delete_logged_model(logged.model_id)
    if there is None:
        there = client.create_logged_model(
            run.info.experiment_id, model.name, run.info.run_id, tags, dict(model.facts), model.kind
        )
    if there.status != LoggedModelStatus.READY:
        outputs = client.get_run(run.info.run_id).outputs
        linked = [] if outputs is None else outputs.model_outputs
        if all(output.model_id != there.model_id for output in linked):
            client.log_outputs(run.info.run_id, [LoggedModelOutput(there.model_id, step=0)])
        client.finalize_logged_model(there.model_id, LoggedModelStatus.READY)


def _of(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> list[LoggedModel]:
    """The models of that identity; more than one where a run was replaced."""
    same = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in identity.items())
    return list(client.search_logged_models([experiment], same))


def _cut(value: Any) -> str:
    """`value` as text that MLflow accepts."""
    text = str(value)
    return text if len(text) <= _FACT_LENGTH else f"{text[: _FACT_LENGTH - 1]}…"
