"""An experiment on a machine whose only disk fills up: the store, MLflow's database and Ray's own files are on it.

    make test-faults

Needs root, to mount a disk that is small; so `make test` leaves it out.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.chaos import Run, Totals, compare, undisturbed, wait

DISK = "256m"
ENDS_WITHIN = 300.0
"""Seconds: retries included, after which a run on a full disk has given up."""
MOMENTS = {"training": "runs/tiny-*/progress.json", "the sweep": "runs/traces/*/*"}


@contextmanager
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="disk", dir="/tmp"))  # Ray's socket paths must be short.
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def fill(file: Path) -> None:
    """Writes until nothing more can be."""
    with file.open("wb", buffering=0) as out:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    out.write(bytes(size))
            except OSError:
                pass


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Counter[tuple[Hashable, ...]]:
    pieces, _ = undisturbed(tmp_path_factory.mktemp("chaos") / "undisturbed")
    return pieces


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.timeout(900)
def test_a_disk_that_fills_is_one_line_and_costs_nothing_once_there_is_room(
    moment: str, expected: Counter[tuple[Hashable, ...]]
) -> None:
    with small_disk() as disk:
        run = Run(disk / "run", {"RAY_TMPDIR": str(disk / "ray"), "ORCHESTRATOR_CACHE": str(disk / "cache")})
        deadline = time.monotonic() + ENDS_WITHIN
        while not list(run.folder.glob(MOMENTS[moment])):
            assert time.monotonic() < deadline, f"{moment} never began"
            time.sleep(0.02)
        fill(disk / "ballast")
        assert run.gives_up(ENDS_WITHIN) == 1
        assert list(disk.glob("ray/**/session_*")), "Ray's files are elsewhere"
        (disk / "ballast").unlink()
        *_, last = (run.folder / "output.txt").read_text().splitlines()
        assert "no space left" in last
        assert "Traceback" not in (run.folder / "output.txt").read_text()

        wait(run)
        totals = Totals(left=run.left())
        compare(expected, run.results(), totals)
    assert (totals.lost, totals.duplicated, totals.differing, totals.left) == (0, 0, 0, 0)
