"""What a job raises where its user can put something right."""

from __future__ import annotations


class StepError(Exception):
    """Raised by a job for something its user can put right: shown as one line, without a traceback, never retried."""


class OutOfMoney(Exception):
    """Raised by a job that does not go on because ``max_cost`` might be passed."""
