"""How answers are read and compared: see docs/grading.md. Light: no imports."""

from __future__ import annotations

from typing import Literal

AnswerType = Literal["integer", "math", "choice", "text", "judged"]
