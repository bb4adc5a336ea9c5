"""Whether this process only controls: it reads models' configs and tokenizers, and holds no model.

The command line and the process of a step are such ones; models are in the workers and replicas that they ask for. So
transformers need not import torch there, which takes most of a short command's time (:mod:`jobs.transformers_classes`).
"""

from __future__ import annotations

_controls = False


def this_process_controls(yes: bool = True) -> None:
    """To be called by a program first thing: what was imported stays so."""
    global _controls
    _controls = yes


def controls() -> bool:
    """Whether this process holds no model, and never will."""
    return _controls
