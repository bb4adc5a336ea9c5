"""What answers are worth. Decodes nothing, so grading can be done again, and better, at any time: see docs/grading.md.

``extraction`` finds what an answer says; ``integers``, ``letters``, ``words`` and ``mathematics`` compare it with the
gold answer; ``workers`` keeps the mathematics in processes that can be ended; ``judge`` asks a model; ``grader`` is all
of it together.
"""

GRADER_VERSION = 3
"""Raised when the same answer may get another verdict than before: `python -m orchestrator grade` then shows which."""
