"""What a ``curate`` step holds: nothing but a core, unless a model classifies."""

from __future__ import annotations

from pydantic import Field

from orchestrator.job.resources import Resources


class CurateResources(Resources):
    """Of the model that classifies."""

    cpus: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0, description="vLLM splits the model over them; 0: transformers, on CPUs")
