"""Training that stops because a machine is about to go."""

from __future__ import annotations


class Leaving(Exception):
    """Training stopped because a machine is about to go; a checkpoint of the last step is saved."""


def staying() -> bool:
    """Nobody announces that a machine goes."""
    return False
