"""What data a tracked run took, as MLflow's dataset inputs: listed with the run, and what runs can be searched by.

MLflow gets the lineage, not the rows: a name, a digest of what was in it, and where it came from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CONTEXT_TAG = "mlflow.data.context"
"""MLflow's own, for what a dataset was taken for."""
_NAME_LENGTH, _DIGEST_LENGTH = 500, 36
"""Characters that MLflow takes."""


@dataclass(frozen=True)
class TakenDataset:
    """A dataset that the store says a run took (``TrackedRun.took``)."""

    name: str
    digest: str
    source: str
    role: str

    @classmethod
    def read(cls, folder: Path) -> list[TakenDataset]:
        """Those of a tracked run's folder."""
        path = folder / "datasets.json"
        return [cls(**each) for each in json.loads(path.read_text())] if path.exists() else []

    @property
    def key(self) -> tuple[str, str]:
        """What MLflow knows it by."""
        return self.name[:_NAME_LENGTH], self.digest[:_DIGEST_LENGTH]


def log_datasets(client: MlflowClient, taken: Sequence[TakenDataset], run: Run) -> None:
    """Makes the server have each of `taken` once, as an input of `run`."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [] if run.inputs is None else run.inputs.dataset_inputs
    there = {(each.dataset.name, each.dataset.digest) for each in inputs}
    new = [
        DatasetInput(
            Dataset(*each.key, source_type="external", source=json.dumps({"uri": each.source})),
            [InputTag(CONTEXT_TAG, each.role)],
        )
        for each in taken
        if each.key not in there
    ]
    if new:
        client.log_inputs(run.info.run_id, new)
