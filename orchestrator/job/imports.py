"""What large imports cost, kept low.

An import makes hundreds of thousands of objects and no garbage, and Python looks through all of them again and again:
a sixth of the seconds that torch, transformers and Ray take. And packages import what happens to be installed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from threading import Thread


@contextmanager
def importing() -> Iterator[None]:
    """Around imports that take long: no garbage is collected meanwhile."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def import_for_later(*modules: str) -> None:
    """Imports what will be needed. What cannot be imported fails where it is used."""
    with importing(), suppress(ImportError):
        for module in modules:
            import_module(module)


def import_meanwhile(*modules: str) -> None:
    """The same, beside what is done until then."""
    Thread(target=import_for_later, args=modules, name="imports", daemon=True).start()


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """No import finds a package, where none found it before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
