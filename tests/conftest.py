"""What tests share: the checkout that they test, and how to run its commands."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("any machine"), max_examples=25)
settings.load_profile("any machine")

# All that torch, vLLM and MLflow define stays until the end: while it is imported, looking for garbage takes nearly as
# long as the imports do, and after that it is not looked at again. What never ends is reported as a leak by some.
gc.disable()
atexit.register(gc.unfreeze)

LONGEST = (
    "test_submission.py",
    "test_finetune_step.py",
    "test_evaluate_run.py",
    "test_run.py",
    "test_pool.py",
    "test_run_from_outside.py",
    "test_judge.py",
    "test_paper_experiments.py",
    "test_openai_server.py",
    "test_strategies.py",
    "test_shipped_recipes.py",
    "test_own_ray.py",
    "test_apart.py",
    "test_chat.py",
    "test_spending.py",
    "test_installed_wheel.py",
    "test_grading_workers.py",
    "test_resume.py",
    "test_loss.py",
)
"""Those that take a minute or more, the longest first: they run first, so that no worker waits for one at the end."""

NOT_COPIED = (".git", ".venv", "runs", "mlflow.db*", "mlartifacts", "mlruns", "__pycache__", ".*_cache", ".hypothesis")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, as it is now, with nothing that was run in it."""
    folder = tmp_path_factory.mktemp("clone") / "checkout"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED), symlinks=True)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This process's environment with its Python first on the path, a home of its own, and no cluster named."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ORCHESTRATOR_", "MLFLOW_"))
    }
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
    own["HOME"] = str(tmp_path_factory.mktemp("home"))
    own.pop("PYTHONPATH", None)
    return own


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, to be copied: making them takes 67 migrations, and seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


STARTED = {"browser", "checkout", "cluster", "gang", "server", "workplace"}
"""Fixtures that start Ray, servers, a browser or whole runs; tests that do so themselves are marked in their files."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "processes: starts Ray, an engine, servers or a browser; not in make quick")
    config.addinivalue_line("markers", "seconds: computes for more than one; not in make quick")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not STARTED.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("processes")
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))
