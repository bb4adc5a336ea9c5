"""transformers' classes that find a model's own, imported without scikit-learn.

transformers imports scikit-learn wherever it is installed, for a curve of its assisted generation, which nothing here
uses. MLflow needs it installed, and each process that loads a tokenizer or a model would pay a second of CPU for it. So
transformers asks whether it is there, and remembers the answer, while it cannot be found.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import is_sklearn_available


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """No import finds a package, where none found it before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


with _hidden("sklearn"):
    is_sklearn_available()

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer  # noqa: E402

__all__ = ["AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoTokenizer"]
