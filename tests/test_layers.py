"""The house's order: which package may import which, and that no import goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

ALLOWED = {
    "cluster": ("cluster",),
    "orchestrator.store": ("orchestrator.store",),
    "orchestrator.job": ("cluster", "orchestrator.store", "orchestrator.job"),
    "orchestrator": ("cluster", "orchestrator", "jobs"),  # of jobs the package's name alone: see below
    "jobs": (
        "cluster",
        "orchestrator.job",
        "orchestrator.store",
        "orchestrator.display",
        "orchestrator.terminal",
        "jobs",
    ),
}
"""By the longest prefix that fits. Jobs read and write files of the store themselves, so they know that part too; and
what they say to people in a terminal is shown as everything is."""
PURE = {
    "jobs.evaluate.sweep": (
        *("jobs.evaluate.sweep", "jobs.template", "orchestrator.job"),
        *("jobs.evaluate.stopping.rule", "jobs.evaluate.stopping.rules"),
    ),
    "jobs.evaluate.stats": (
        "jobs.evaluate.stats",
        "jobs.evaluate.sweep",
        "jobs.evaluate.published",
        "jobs.evaluate.grading.words",
        "jobs.evaluate.planning.lengths",
        "orchestrator.job.extensions",
    ),
}
"""Rooms that need no cluster, engine or file."""
ENTRY_POINTS = {"jobs.finetune.__main__"}
"""Programs, which read experiment files."""


def modules() -> dict[str, Path]:
    found = {}
    for package in ("cluster", "orchestrator", "jobs"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def imported(module: str) -> set[str]:
    """Modules of ours that `module` imports, anywhere in it, but for types alone."""

    def within(nodes: Sequence[ast.AST]) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in MODULES else node.module
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            else:
                for _, value in ast.iter_fields(node):
                    if isinstance(value, list):
                        yield from within([each for each in value if isinstance(each, ast.stmt | ast.excepthandler)])

    return {name for name in within(ast.parse(MODULES[module].read_text()).body) if name in MODULES}


def inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def trespasses(order: dict[str, tuple[str, ...]]) -> list[str]:
    found = []
    for module in MODULES.keys() - ENTRY_POINTS:
        layer = max((layer for layer in order if inside(module, (layer,))), key=len, default=None)
        if layer is not None:
            found += [f"{module} imports {name}" for name in imported(module) if not inside(name, order[layer])]
    return sorted(found)


@pytest.mark.parametrize("order", [ALLOWED, PURE], ids=["packages", "pure rooms"])
def test_imports_point_one_way(order: dict[str, tuple[str, ...]]) -> None:
    assert trespasses(order) == []


def test_the_control_plane_knows_no_job() -> None:
    known = {name for module in MODULES if inside(module, ("orchestrator",)) for name in imported(module)}
    assert {name for name in known if inside(name, ("jobs",))} == {"jobs"}


def test_a_run_knows_nothing_of_the_page_that_follows_it() -> None:
    page = ("orchestrator.live",)
    takers = {module for module in MODULES if any(inside(name, page) for name in imported(module))}
    assert {module for module in takers if not inside(module, page)} == {"orchestrator.commands.report"}


def test_no_import_goes_round_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imported(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
