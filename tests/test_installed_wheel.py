"""The built wheel and sdist, installed where no checkout is: the command, one's own experiments, and a Ray job.

What it depends on is this environment's, so nothing is downloaded; only the project itself is installed anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.processes

BUILD = """
import sys
from setuptools import build_meta

folder, *kinds = sys.argv[1:]
for kind in kinds:
    getattr(build_meta, f"build_{kind}")(folder)
"""
TEXT = "name: mine\nsteps:\n  words: {job: letters, train: 10}\n"


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-c", BUILD, str(folder), "sdist", "wheel"]
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and otherwise what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel)]
    subprocess.run(pip, check=True, env={**os.environ, "PYTHONPATH": ""})
    _, _, script = (Path(sys.executable).parent / "ray").read_text().partition("\n")
    (python.parent / "ray").write_text(f"#!{python}\n{script}")
    (python.parent / "ray").chmod(0o755)
    return python.parent


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> dict[str, str]:
    """An environment without a checkout, in a folder with an experiment."""
    (tmp_path / "mine.yaml").write_text(TEXT)
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ORCHESTRATOR_", "MLFLOW_"))
    }
    own.pop("PYTHONPATH", None)
    return own | {"PATH": f"{installed}:{own['PATH']}", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}


def run(folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
    )


def test_the_command_does_what_the_module_does(tmp_path: Path, elsewhere: dict[str, str], installed: Path) -> None:
    where = run(
        tmp_path, elsewhere, str(installed / "python"), "-c", "import orchestrator; print(orchestrator.__file__)"
    )
    assert str(installed.parent) in where.stdout, where.stderr
    listed = run(tmp_path, elsewhere, "scaling", "--help").stdout
    commands = [file.stem.removesuffix("_") for file in (ROOT / "orchestrator" / "commands").glob("[!_]*.py")]
    assert all(f"\n  {command} " in listed for command in commands)
    planned = run(tmp_path, elsewhere, "scaling", "plan", "mine.yaml")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(run(tmp_path, elsewhere, "scaling", "schema").stdout)["$defs"]
    made = run(tmp_path, elsewhere, "scaling", "init", "a.yaml", "--model", "a/b", "--questions", "math500",
               "--budgets", "16", "--strings", "-")  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("Next: scaling plan a.yaml\n")
    typed = "source <(scaling completion bash); COMP_WORDS=(scaling pl); COMP_CWORD=1; _scaling_completion scaling; "
    completed = run(tmp_path, elsewhere, "bash", "-c", typed + 'echo "${COMPREPLY[@]}"')
    assert completed.stdout == "plan\n", completed.stderr
    doctor = run(tmp_path, elsewhere, "scaling", "doctor", "mine.yaml")
    assert "requirements are met" in doctor.stdout, doctor.stdout


def test_ones_own_experiment_runs_as_a_ray_job_without_a_checkout(
    tmp_path: Path, elsewhere: dict[str, str], installed: Path
) -> None:
    submit = ["ray", "job", "submit", "--working-dir", ".", "--", "scaling", "run", "mine.yaml"]
    environment = elsewhere | {"ORCHESTRATOR_STORE": str(tmp_path / "store")}
    command = [str(installed / "python"), "-m", "cluster.local", "--plan", "mine.yaml", *submit]
    ran = run(tmp_path, environment, *command)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "started a Ray head" in ran.stdout
    assert list((tmp_path / "store").glob("words-*/output/train.jsonl"))
    again = run(tmp_path, environment, *command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "everything is done, nothing to run" in again.stdout
    assert "started a Ray head" not in again.stdout


def test_both_hold_all_that_is_read_and_nothing_else(built: Path, tmp_path: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = run(ROOT, dict(os.environ), "git", "ls-files", "cluster", "jobs", "orchestrator").stdout.split()
    assert set(ours) <= names
    assert {"orchestrator/py.typed", "jobs/py.typed", "cluster/py.typed"} <= names, "type checkers read it"
    assert not {name.partition("/")[0] for name in names} & {"tests", "benchmarks", "experiments", "docs"}
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path, filter="data")
    assert set(ours) <= inside
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"} <= inside
    (unpacked,) = tmp_path.iterdir()
    subprocess.run([sys.executable, "-c", BUILD, str(tmp_path), "wheel"], cwd=unpacked, check=True, capture_output=True)
    (again,) = tmp_path.glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == names
