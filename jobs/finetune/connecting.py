"""How Ray Train connects the workers of a gang, and what the first of them does before.

All import what they will need. Others wait for each other in operations that have a time limit, so what takes long and
is one worker's affair, such as to download a model, is done before they are connected. Then each chooses its network,
and they connect as Ray Train's own backend for torch has them do. The step's process reads this too: only workers
import torch, which that backend would have both import.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray import cloudpickle
from ray.train._internal.utils import get_address_and_port
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.util import TrainingFramework
from ray.util import get_node_ip_address

from orchestrator.job.imports import import_for_later

CONNECTED_WITHIN = 1800
"""Seconds that operations among workers may take, to be connected being one."""
DISCONNECTED_WITHIN = 30
"""Seconds that are waited for workers to disconnect; then they are ended as they are."""


@dataclass
class GangConfig(BackendConfig):
    """Connects workers by torch's process group, on the network of :mod:`jobs.finetune.network`, after what
    :func:`packed` has packed was called by the first worker."""

    backend: str
    """Of the process group."""
    before: bytes | None = None

    @property
    def backend_cls(self) -> type[Backend]:
        return _Backend

    @property
    def train_func_context(self) -> type[_OnItsDevice]:
        return _OnItsDevice

    @property
    def framework(self) -> TrainingFramework:
        return TrainingFramework.TORCH

    def to_dict(self) -> dict[str, Any]:
        """For Ray's dashboard."""
        return {"backend": self.backend}


def packed(function: Callable[[], None]) -> bytes:
    """`function` for a :class:`GangConfig`: only the worker unpacks it, and imports what it needs."""
    return cloudpickle.dumps(function)


class _Backend(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        assert isinstance(backend_config, GangConfig)
        # All at once: later, some would wait for others to import it. Ray Train's contexts import Ray Tune.
        ours, theirs = ("jobs.finetune.worker", "jobs.finetune.run"), ("ray.train.torch", "ray.tune.trainable")
        worker_group.execute(import_for_later, *ours, *theirs)
        if backend_config.before is not None:
            worker_group.execute_single(0, _call, backend_config.before)
        worker_group.execute(_choose, worker_group.execute_single(0, get_node_ip_address))
        address, port = worker_group.execute_single(0, get_address_and_port)
        size = len(worker_group)
        connected = [
            worker_group.execute_single_async(rank, _connect, backend_config.backend, address, port, rank, size)
            for rank in range(size)
        ]
        ray.get(connected)

    def on_shutdown(self, worker_group: Any, backend_config: BackendConfig) -> None:
        ended = worker_group.execute_async(_disconnect, len(worker_group) > 1)
        ray.wait(ended, num_returns=len(ended), timeout=DISCONNECTED_WITHIN)


class _OnItsDevice:
    """The training of a worker is on the card that Ray gave it."""

    def __enter__(self) -> None:
        from ray.train.torch import TorchConfig

        TorchConfig().train_func_context().__enter__()

    def __exit__(self, *raised: object) -> None:
        pass


def _connect(backend: str, address: str, port: int, rank: int, size: int) -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group

    os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(port))
    _set_torch_distributed_env_vars()
    _setup_torch_process_group(backend, rank, size, "env://", CONNECTED_WITHIN)


def _disconnect(several: bool) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=several)


_before: Future[None] | None = None
"""Of this process, where it is the first worker's."""


def _call(function: bytes) -> None:
    global _before
    with ThreadPoolExecutor(1) as thread:
        _before = thread.submit(cloudpickle.loads(function))


def raise_what_was_before() -> None:
    """Raises, in the first worker, what it raised before it was connected. To be called first thing by all.

    Not raised there and then: Ray Train would take it for a failure of its own.
    """
    if _before is not None:
        _before.result()


def _choose(master: str) -> None:
    from jobs.finetune.network import choose

    context = ray.train.get_context()
    choose(master, nodes=-(-context.get_world_size() // context.get_local_world_size()))
