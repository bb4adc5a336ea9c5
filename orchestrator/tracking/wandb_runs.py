"""Weights & Biases beside MLflow: finished steps' tracked runs as its offline runs, for ``wandb sync`` to upload.

::

    wandb: wandb        # in the experiment file: the folder; then, when you like:  wandb sync wandb/offline-run-*

Nothing here asks for a key or a network: whoever has an account uploads the folder, from wherever it is. An offline run
cannot be added to, so a run is written once its step has ended, as a whole. Its id is that of the step and the run, so
one that is written again (its step went on, or was graded again) takes the place of the former, here and, once it is
synced, there.

Points are logged as they were measured, each against ``step``, which is its x axis: thinking tokens of a curve,
optimizer steps of training. Artifacts stay in the store and in MLflow.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.tracking.run_folder import RunFolder, run_folders
from orchestrator.tracking.tracker import RunState, TrackingError

LIBRARY = "wandb"
DIGEST = "told.sha256"
"""In a run's folder: what it was written from."""

_EXIT = {"FINISHED": 0, "FAILED": 1, "KILLED": 255}
_SETTINGS = {
    "mode": "offline",
    "console": "off",
    "silent": True,
    # What a machine is, who called what, and with which arguments is no part of a result, and may be secret.
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_code": True,
    "disable_git": True,
}


@dataclass(frozen=True)
class WandbRuns:
    """The offline runs of one experiment, in `folder`."""

    folder: Path
    experiment: str

    @property
    def project(self) -> str:
        """The experiment's name, as far as it can be a project's."""
        return re.sub(r"[/\\#?%:]+", "-", self.experiment)[:128]

    def check(self) -> None:
        """Raises :class:`TrackingError` where the library is not installed, for before anything costs anything."""
        if importlib.util.find_spec(LIBRARY) is None:
            raise TrackingError(
                f"wandb: {self.folder}: the package {LIBRARY} is not installed: "
                "pip install 'scaling-orchestrator[wandb]', or take the key out"
            )

    def sync(self, step_folder: Path, step_name: str, fingerprint: str, state: RunState) -> None:
        """Makes the folder say what ``step_folder/tracked`` does, of a step that ended as `state`.

        Raises :class:`TrackingError` where it cannot be written, DamagedRecord where what is there is not what was
        written.
        """
        there = {each.name.split("-", 3)[-1]: each for each in self.folder.glob("offline-run-*")}
        new = {}
        for run in run_folders(step_folder):
            name, digest = f"{fingerprint}-{run.path.name}", _digest(run, state)
            if name not in there or not _was_told(there[name], digest):
                new[name] = (run, digest)
        if not new:
            return
        self.check()
        with _failures(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".writing-") as temporary, _library() as wandb:
                for name, (run, digest) in new.items():
                    made = self._write(wandb, Path(temporary), name, run, step_name, fingerprint, state)
                    (made / DIGEST).write_text(digest)
                    if name in there:
                        shutil.rmtree(there[name])
                    made.rename(self.folder / made.name)

    def _write(
        self, wandb: Any, root: Path, name: str, run: RunFolder, step_name: str, fingerprint: str, state: RunState
    ) -> Path:
        """The folder of one run, below `root`."""
        written = wandb.init(
            project=self.project,
            id=name,
            name=run.name,
            group=step_name,
            job_type=run.group or "curve",
            config={**run.tags, **run.params, "step": step_name, "fingerprint": fingerprint},
            dir=root,
            settings=wandb.Settings(**_SETTINGS),
            reinit="create_new",
        )
        written.define_metric("step", hidden=True)
        written.define_metric("*", step_metric="step")
        for line in run.lines:
            written.log({**line.values, "step": line.step})
        written.finish(exit_code=_EXIT[state])
        (made,) = root.glob(f"wandb/offline-run-*-{name}")
        return made


def _digest(run: RunFolder, state: RunState) -> str:
    content = [run.name, dict(run.params), dict(run.tags), run.group, run.digest(len(run.lines)), state]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _was_told(folder: Path, digest: str) -> bool:
    file = folder / DIGEST
    return file.exists() and file.read_text() == digest


@contextmanager
def _library() -> Iterator[Any]:
    """wandb, whose process ends with the block."""
    import wandb

    try:
        yield wandb
    finally:
        wandb.teardown()


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """Gives what the library or a disk can do to a call one name."""
    from wandb.errors import Error

    try:
        yield
    except (Error, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrackingError(f"Weights & Biases at {folder}: {reason}") from error
