"""What answers are worth. Decodes nothing, so grading can be done again, and better, at any time: see docs/grading.md.

``extraction`` finds what an answer says, ``values`` and ``letters`` the answer in a sentence; ``integers``, ``words``,
``units``, ``ratios``, ``equations`` and ``mathematics`` compare it with the gold answer; ``reader`` is all of that, and
``workers`` keeps it in processes that can be ended; ``judge`` asks a model; ``grader`` is all of it together.
"""

GRADER_VERSION = 4
"""Raised when the same answer may get another verdict than before: `python -m orchestrator grade` then shows which."""
