"""A tracking server that goes away at the worst moment: after it did what it was asked, and before it says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mlflow import MlflowClient

from orchestrator.tracking.tracker import TrackingError


@contextmanager
def goes_away_after(call: str) -> Iterator[None]:
    """While the block runs, `call` of MLflow's client is carried out and never answered, which must end the block."""
    real = getattr(MlflowClient, call)

    def lost(self: MlflowClient, *args: object, **kwargs: object) -> object:
        real(self, *args, **kwargs)
        raise ConnectionError("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, call, lost)
        with pytest.raises(TrackingError, match="gone"):
            yield
