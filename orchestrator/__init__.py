"""The control plane: an experiment file in, finished steps and MLflow runs out.

From Python: ``from orchestrator import load, run, results`` (:mod:`orchestrator.interface`), imported when they
are first asked for, because most who import this package want one of its modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.interface import load, results, run

__all__ = ["load", "results", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator import interface

    return getattr(interface, name)
