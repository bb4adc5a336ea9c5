"""MLflow, as a mirror: what steps wrote to the store about themselves becomes runs of a tracking server.

A step's ``tracked/<run>/`` folders (:class:`orchestrator.job.tracked_run.TrackedRun`) are the truth, and
:meth:`Tracker.sync` makes the server say the same, as often as it is called: it finds each run by a tag, and logs what
is missing. So a server that was away is caught up by the next call, an experiment that is resumed updates its runs, and
one whose server lost everything gets it all back.

A model that came of a run becomes a logged model beside it (:mod:`orchestrator.tracking.logged_model`), and the data
that a run was given its dataset inputs (:mod:`orchestrator.tracking.dataset_inputs`).

MLflow only ever appends: a param or a logged metric cannot be taken back. Where the store no longer says what the
server was told (a restarted training measures its last steps again), the run is deleted there and logged afresh.

Curves and training have different x axes, so runs of a group go to an experiment of their own (``<name> · training``):
the experiment's page (:meth:`Tracker.page`) then opens as overlaid curves and nothing else.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.job.imports import importing
from orchestrator.tracking import chart_view
from orchestrator.tracking.dataset_inputs import log_datasets
from orchestrator.tracking.logged_model import log_model
from orchestrator.tracking.run_folder import RunFolder, run_folders

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_URI = "sqlite:///mlflow.db"

RunState = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's words for how a run stands."""

RUN_TAG = "tracked.run"
"""Which run of which step this is: what a run is found by."""
METRICS_TAG = "tracked.metrics"
"""How many lines of metrics were logged, and their digest."""
ARTIFACTS_TAG = "tracked.artifacts"
"""The digest of the artifacts that were uploaded."""

NAME_LENGTH = 200
"""Characters of an experiment's name in MLflow, whose databases have room for 256 with what is added."""

ANSWER_SECONDS = 5.0

METRICS_AT_ONCE = 990
"""MLflow takes 1,000 entities a call; the tag that says what was logged travels with the metrics."""
PARAM_LENGTH = 6000
TAG_LENGTH = 5000

_MEANT = {"color": "mlflow.runColor"}
"""Tags that MLflow has a name of its own for."""

_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_ENVIRONMENT = {
    # The executor calls again later, so one call need not hold on for MLflow's own four minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A job's log is not the place for how MLflow makes its tables.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class TrackingError(Exception):
    """The server could not be told. Nothing is lost: the store has it, and the next :meth:`Tracker.sync` tells it."""


@dataclass(frozen=True)
class Tracker:
    """Mirrors the tracked runs of one experiment to the server at `uri`."""

    uri: str
    experiment: str

    def sync(self, step_folder: Path, step_name: str, fingerprint: str, state: RunState = "RUNNING") -> None:
        """Makes the server say what ``step_folder/tracked`` does, of a step that stands at `state`.

        Artifacts are uploaded once the step is no longer RUNNING: until then they are being written.
        Raises :class:`TrackingError` when the server does not answer or does not accept; call again. Raises
        DamagedRecord where what is there is not what was written.
        """
        folders = [_fitted(folder) for folder in run_folders(step_folder)]
        if not folders:
            return
        _quieten()
        with self._failures():
            for folder in folders:
                tags = {"step": step_name, "fingerprint": fingerprint, RUN_TAG: f"{fingerprint}/{folder.path.name}"}
                self._mirror(folder, tags, state)

    def open(self) -> None:
        """Imports MLflow, and opens its database, which is made where there is none: what the first call takes longest
        for. Raises :class:`TrackingError` where it cannot be opened."""
        _quieten()
        with self._failures():
            self._client  # noqa: B018

    def check(self) -> None:
        """Raises :class:`TrackingError` where a server does not answer at all, after :data:`ANSWER_SECONDS`.

        What it answers is for :meth:`sync` to see: here it is only worth a moment, before machines are asked for.
        """
        if not self.uri.startswith(("http://", "https://")):
            return
        address = urllib.parse.urlsplit(self.uri)
        port = address.port or (443 if address.scheme == "https" else 80)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                with socket.create_connection((address.hostname or "", port), timeout=ANSWER_SECONDS):
                    return
            except (OSError, UnicodeError) as error:
                if time.monotonic() > deadline:
                    where = without_credentials(self.uri)
                    raise TrackingError(
                        f"tracking: {where} does not answer ({error}): start it, or change it"
                    ) from None
                time.sleep(0.5)

    def page(self, server: str) -> str:
        """Where the experiment's curves are, overlaid, on the server at `server` (``http://127.0.0.1:5000``).

        Raises :class:`TrackingError` when the tracking store does not answer.
        """
        _quieten()
        with self._failures():
            return chart_view.address(server, self._experiment_id(None))

    def download(self, run_id: str, folder: Path) -> str:
        """Puts the artifacts of a run into `folder`, and returns the run's name.

        Raises :class:`TrackingError` where there is no such run, or no answer.
        """
        _quieten()
        with self._failures():
            run = self._client.get_run(run_id)
            self._client.download_artifacts(run_id, "", str(folder))
        return str(run.info.run_name)

    def _mirror(self, folder: RunFolder, identity: Mapping[str, str], state: RunState) -> None:
        experiment = self._experiment_id(folder.group)
        run = self._find(experiment, identity[RUN_TAG])
        if run is not None and not _extends(folder, run):
            self._client.delete_run(run.info.run_id)
            run = None
        if run is None:
            started = folder.lines[0].time if folder.lines else time.time()
            run = self._client.create_run(experiment, int(started * 1000), dict(identity), folder.name)
        self._log_identity(folder, run)
        self._log_metrics(folder, run)
        log_datasets(self._client, folder.datasets, run)
        if state != "RUNNING":
            self._log_artifacts(folder, run)
        if state == "FINISHED" and folder.model is not None:
            log_model(self._client, folder.model, run, identity)
        if run.info.status != state:
            self._set_state(run.info.run_id, state)

    def _experiment_id(self, group: str | None) -> str:
        """The experiment that a group's runs are in: made if it is not there, restored if it was deleted."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

        name = _fitting(self.experiment) if group is None else f"{_fitting(self.experiment)} · {group}"
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            try:
                self._client.create_experiment(name)
            except MlflowException as error:  # another run of the experiment may have made it just now
                if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                    raise
            experiment = self._client.get_experiment_by_name(name)
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        if group is None and experiment.tags.get(chart_view.TAG) != chart_view.STATE:
            self._client.set_experiment_tag(experiment.experiment_id, chart_view.TAG, chart_view.STATE)
        return str(experiment.experiment_id)

    def _find(self, experiment: str, key: str) -> Run | None:
        """The run with that key. There are several where an experiment was restored with runs replaced before."""
        runs = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{key}'")
        for other in runs[1:]:
            self._client.delete_run(other.info.run_id)
        return runs[0] if runs else None

    def _log_identity(self, folder: RunFolder, run: Run) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in folder.params.items() if key not in run.data.params]
        tags = [RunTag(key, value) for key, value in folder.tags.items() if run.data.tags.get(key) != value]
        for start in range(0, max(len(params), len(tags)), 100):
            self._client.log_batch(run.info.run_id, params=params[start : start + 100], tags=tags[start : start + 100])

    def _log_metrics(self, folder: RunFolder, run: Run) -> None:
        from mlflow.entities import Metric, RunTag

        logged = _logged_lines(run)
        batch: list[Metric] = []
        for number, line in enumerate(folder.lines[logged:], logged + 1):
            milliseconds = int(line.time * 1000)
            batch += [Metric(key, value, milliseconds, line.step) for key, value in line.values.items()]
            more = folder.lines[number : number + 1]
            if not more or len(batch) + len(more[0].values) > METRICS_AT_ONCE:
                tag = RunTag(METRICS_TAG, folder.digest(number))
                self._client.log_batch(run.info.run_id, metrics=batch, tags=[tag])
                batch = []

    def _log_artifacts(self, folder: RunFolder, run: Run) -> None:
        digest = folder.artifacts_digest()
        if digest and run.data.tags.get(ARTIFACTS_TAG) != digest:
            self._client.log_artifacts(run.info.run_id, str(folder.path / "artifacts"))
            self._client.set_tag(run.info.run_id, ARTIFACTS_TAG, digest)

    def _set_state(self, run_id: str, state: RunState) -> None:
        if state == "RUNNING":
            self._client.update_run(run_id, state)
        else:
            self._client.set_terminated(run_id, state)

    @cached_property
    def _client(self) -> MlflowClient:
        """Importing MLflow and opening a database takes about two seconds, so it waits until there is a run to log."""
        with importing():
            from mlflow import MlflowClient

            return MlflowClient(self.uri)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Gives whatever a server, a database or a disk can do to a call one name."""
        with importing():
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrackingError(without_credentials(f"MLflow at {self.uri}: {reason}")) from error


def without_credentials(text: str) -> str:
    """`text` with ``user:password@`` left out of its addresses."""
    return _CREDENTIALS.sub("//", text)


def _fitting(name: str) -> str:
    """An experiment's name as MLflow's databases can keep it: itself, or cut, with a hash that keeps it apart."""
    if len(name) <= NAME_LENGTH:
        return name
    return f"{name[: NAME_LENGTH - 10]}… {hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _quieten() -> None:
    """Settings of MLflow's that suit a mirror, where the user has made none."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    # MLflow reads its level when it is imported, which others may have done before.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())


def _fitted(folder: RunFolder) -> RunFolder:
    """What of it MLflow accepts, and under the names that MLflow has for it."""
    params = {key: _cut(value, PARAM_LENGTH) for key, value in folder.params.items()}
    tags = {_MEANT.get(key, key): _cut(value, TAG_LENGTH) for key, value in folder.tags.items()}
    return replace(folder, params=params, tags=tags)


def _extends(folder: RunFolder, run: Run) -> bool:
    """Whether what the server was told is the beginning of what the store says."""
    if any(folder.params.get(key, value) != value for key, value in run.data.params.items()):
        return False
    logged = _logged_lines(run)
    return logged <= len(folder.lines) and run.data.tags.get(METRICS_TAG, folder.digest(0)) == folder.digest(logged)


def _logged_lines(run: Run) -> int:
    return int(run.data.tags.get(METRICS_TAG, "0:").partition(":")[0])


def _cut(value: Any, length: int) -> str:
    """`value` as text that MLflow accepts."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
