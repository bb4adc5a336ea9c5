"""Checkpoints: the weights and the optimizer's state, at an optimizer step, saved while training goes on.

Nothing else needs saving. The learning rate, the samples and the random numbers of a step are functions of its number,
so a run that continues from a checkpoint does exactly what the undisturbed one did. Each worker writes its own shards;
a gang of another size can read them.

Saving stops training for a copy to the CPU's memory only. The copy is written by a thread, which agrees with the other
workers over a process group of its own; the marker that makes it a checkpoint comes last, and older ones are dropped
after that. There is one copy at a time: a checkpoint that is due before the last one is written waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future as TorchFuture

from jobs.finetune.checkpoint_files import CheckpointFolder, Contents
from orchestrator.job.errors import StepError

_STATE = "training"
_INDEX = ".metadata"


class Restorable(Protocol):
    """What checkpoints need of a :class:`jobs.finetune.strategy.Strategy`."""

    def state(self) -> dict[str, Any]:
        """Weights and optimizer, nested by names that do not depend on the number of workers; live tensors."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Continues from `state`, as :meth:`state` returned it and a checkpoint filled it in place."""


class Checkpoints:
    """Saves and restores one run. Made, used and closed by all workers together, as a context.

    `recipe` tells one run from another.
    """

    def __init__(self, folder: CheckpointFolder, recipe: Mapping[str, Any], *, every: int, keep: int):
        self._folder = folder
        self._recipe = dict(recipe)
        self._every = every
        self._keep = keep
        self._group = dist.new_group(backend="gloo")
        gpu = torch.cuda.is_available()
        options = StagingOptions(
            use_pinned_memory=gpu, use_shared_memory=False, use_async_staging=False, use_non_blocking_copy=gpu
        )
        self._stager = DefaultStager(options)
        self._writing: tuple[int, Future[Any]] | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error other workers may be gone, and what is being written with them never ends.
        if error is None:
            self._finish()
            self._stager.close()
            dist.destroy_process_group(self._group)

    def after(self, step: int, trained: Restorable, *, last: bool) -> None:
        """Saves the state after `step` optimizer steps when a checkpoint is due: every so many, and as the last.

        Raises StepError when a checkpoint cannot be written; earlier ones are then as they were.
        """
        if self._writing is not None and self._writing[1].done():
            self._finish()
        if step % self._every == 0 or last:
            self._finish()
            self._writing = step, self._start(step, trained)

    def restore(self, trained: Restorable) -> int:
        """Loads the latest checkpoint that is whole. The optimizer steps it has behind it; 0 where there is none.

        Raises StepError where it is of another run, or where all that there are turn out to be damaged.
        """
        state = {_STATE: trained.state()}
        if dist.get_rank() == 0:
            print(
                f"A checkpoint, every {self._every} steps, has {_gb(_bytes(state))}: {self._folder.location}",
                flush=True,
            )
        checkpoints = self._found()
        for step, contents in checkpoints:
            self._refuse_another(step, contents, state)
            reader = FsspecReader(self._folder.step(step), **self._folder.options)
            try:
                dcp.load(state, storage_reader=reader, process_group=self._group)
            except CheckpointException as error:
                self._raise_complaint(error)
                print(f"{self._folder.step(step)} is damaged, trying an earlier one: {_reason(error)}", flush=True)
                continue
            trained.load_state(state[_STATE])
            return step
        if checkpoints:
            raise StepError(
                f"resources.checkpoints: none of the {len(checkpoints)} checkpoints in {self._folder.location} can be "
                "read; remove that folder to train from the start"
            )
        return 0

    def _start(self, step: int, trained: Restorable) -> Future[Any]:
        writer = _Writer(self._folder, step, self._recipe, self._keep, dist.get_world_size())
        saving = dcp.async_save(
            {_STATE: trained.state()},
            storage_writer=writer,
            process_group=self._group,
            async_stager=self._stager,
        )
        return saving.upload_completion if isinstance(saving, AsyncSaveResponse) else saving

    def _finish(self) -> None:
        """Waits for what is being written. Raises StepError when there is no place for it."""
        if self._writing is None:
            return
        step, future = self._writing
        self._writing = None
        try:
            future.result()
        except CheckpointException as error:
            if dist.get_rank() == 0:
                with suppress(StepError), self._folder.explained():
                    self._folder.drop(step)
            self._raise_complaint(error)
            # Not an Exception itself, and so not what those who run workers expect of them.
            raise RuntimeError(f"the checkpoint after step {step} could not be saved: {_reason(error)}") from error

    def _raise_complaint(self, error: CheckpointException) -> None:
        """Raises StepError where the file system or the bucket is the reason, in any worker."""
        for failure, _ in error.failures.values():
            if self._folder.is_complaint(failure):
                raise StepError(self._folder.complaint(failure)) from error

    def _found(self) -> list[tuple[int, Contents]]:
        """The whole checkpoints, as worker 0 sees them."""
        seen: list[list[tuple[int, Contents]] | StepError] = [[]]
        if dist.get_rank() == 0:
            try:
                with self._folder.explained():
                    seen = [list(self._folder.whole())]
            except StepError as error:
                seen = [error]
        dist.broadcast_object_list(seen, src=0, group=self._group)
        if isinstance(seen[0], StepError):
            raise seen[0]
        return seen[0]

    def _refuse_another(self, step: int, contents: Contents, state: dict[str, Any]) -> None:
        """Raises StepError, naming the first difference, when a checkpoint is not of this run."""
        for name in sorted(self._recipe.keys() | contents.recipe.keys()):
            there, here = contents.recipe.get(name), self._recipe.get(name)
            if there != here:
                raise StepError(self._another(step, "run", f"{name} is {there} there and {here} here"))
        shapes = _shapes(state)
        for name in sorted(shapes.keys() | contents.shapes.keys()):
            there, here = contents.shapes.get(name), shapes.get(name)
            if there != here:
                raise StepError(self._another(step, "model", f"{name} is {there} there and {here} here"))

    def _another(self, step: int, what: str, difference: str) -> str:
        return (
            f"resources.checkpoints: {self._folder.step(step)} is of another {what} ({difference}); choose another "
            "folder, or remove that one"
        )


class _Writer(FsspecWriter):
    """Writes one checkpoint: clears what a crash left in its place, and marks it when all workers have written."""

    def __init__(self, folder: CheckpointFolder, step: int, recipe: dict[str, Any], keep: int, workers: int):
        # A bucket has nothing to flush; asking for it would flush every disk of the machine instead. Everything is on
        # the CPU already: to copy ahead would stop the GPU's stream for each large tensor, and this thread, which has
        # no GPU of its own, would take memory of GPU 0 for it in every worker.
        super().__init__(folder.step(step), sync_files=folder.local, per_thread_copy_ahead=0, **folder.options)
        self._folder = folder
        self._step = step
        self._recipe = recipe
        self._keep = keep
        self._workers = workers
        self._started = time.monotonic()

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)
        if is_coordinator:  # Nobody writes before the coordinator has everyone's plan, which it makes after this.
            self._folder.drop(self._step)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> TorchFuture[list[WriteResult]]:
        try:
            return super().write_data(plan, planner)
        except RuntimeError as error:
            # torch.save complains that its archive is incomplete, in place of the error that made it so.
            cause = error.__context__
            if cause is not None and self._folder.is_complaint(cause):
                raise cause from error
            raise

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Called by the coordinator, once everything that `results` tells of is written."""
        super().finish(metadata, results)
        files: dict[str, int] = {}
        for written in (result.storage_data for worker in results for result in worker):
            files[written.relative_path] = max(files.get(written.relative_path, 0), written.offset + written.length)
        files[_INDEX] = self._folder.size(self._step, _INDEX)
        shapes = {
            name: list(stored.size)
            for name, stored in metadata.state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }
        self._folder.mark(self._step, Contents(files, shapes, self._recipe, self._workers))
        size, seconds = sum(files.values()), time.monotonic() - self._started
        where = self._folder.step(self._step)
        print(f"Wrote {_gb(size)} in {seconds:.1f} s, {size / 1e9 / seconds:.2f} GB/s, to {where}", flush=True)
        self._folder.retain(self._step, self._keep)


def _bytes(state: Mapping[str, Any]) -> int:
    """Bytes of the tensors in nested dicts, of all workers together."""
    values = (_bytes(value) if isinstance(value, Mapping) else _size(value) for value in state.values())
    return sum(values)


def _size(value: object) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"


def _shapes(state: Mapping[str, Any], prefix: str = "") -> dict[str, list[int]]:
    """The shapes of the tensors in nested dicts, by the names that they have in a checkpoint."""
    shapes: dict[str, list[int]] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, torch.Tensor):
            shapes[name] = list(value.shape)
        elif isinstance(value, Mapping):
            shapes |= _shapes(cast(Mapping[str, Any], value), f"{name}.")
    return shapes


def _reason(error: CheckpointException) -> str:
    """The first line of the first failure that it carries."""
    failures = [failure for failure, _ in error.failures.values()]
    return f"{type(failures[0]).__name__}: {str(failures[0]).strip().partition(chr(10))[0]}" if failures else str(error)
