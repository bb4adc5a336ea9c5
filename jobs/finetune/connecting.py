"""How the workers of a gang are connected, and what the first of them does before.

Others wait for each other in operations that have a time limit, so what takes long and is one worker's affair, such as
to download a model, is done before they are connected. Ray Train's controller reads this too, so it imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import cloudpickle
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


@dataclass
class Connection(TorchConfig):
    """Ray Train's own, after what :func:`packed` has packed was called by the first worker."""

    before: bytes | None = None

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _Backend


def packed(function: Callable[[], None]) -> bytes:
    """`function` for a :class:`Connection`: only the worker unpacks it, and imports what it needs."""
    return cloudpickle.dumps(function)


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Connection) -> None:
        if backend_config.before is not None:
            worker_group.execute_single(0, _call, backend_config.before)
        super().on_start(worker_group, backend_config)


def _call(function: bytes) -> None:
    cloudpickle.loads(function)()
