"""What a job raises where its user can put something right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class StepError(Exception):
    """Raised by a job for something its user can put right: shown as one line, without a traceback, never retried."""
