"""What answers are worth. Decodes nothing, so grading can be done again, and better, at any time: see docs/grading.md.

``answer_type`` is what a type of answers is, ``answer_types`` those that are built in. ``extraction`` finds what an
answer says; ``values`` (of the ``parts`` of a sentence, by the words of ``vocabulary``), ``letters`` and ``told`` what
a sentence says. ``integers``, ``words``, ``units``, ``magnitude``, ``ratios``, ``equations`` and ``mathematics``
compare it with the gold answer, without its ``markup``. ``reader`` is all of that, ``worker`` the process that runs it,
and ``workers`` keeps such processes, which can be ended. ``judge`` asks a model, perhaps one loaded on this cluster
(``judge_actor``), ``config`` says which, ``grader`` is all of it together, and ``session`` what a sweep has of it.
"""

GRADER_VERSION = 5
"""Raised when the same answer may get another verdict than before: `python -m orchestrator grade` then shows which."""
