"""The main job, as a newcomer runs it: how long it takes, what its curves show, what a kill -9 costs.

    python benchmarks/main_job.py [--json FILE]

In a fresh clone in an empty folder (with this environment, so installation is not in the figures): ``make sweep``,
``make sweep`` again, then the sweep once more in a second store, whose driver is killed half-way and started again.
Takes about eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
EXPERIMENT = "experiments/scaling_sweep.yaml"


def timed_sweep(clone: Path) -> tuple[float, str]:
    """Seconds and output of ``make sweep``. Raises CalledProcessError, showing its output, where it fails."""
    began = time.monotonic()
    # -o: the environment is there, whatever make thinks of its age.
    command = ["make", "-o", ".venv/installed-cpu", "sweep"]
    result = subprocess.run(
        command, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"make sweep ended with {result.returncode}:\n{result.stdout}")
    return time.monotonic() - began, result.stdout


def step_folder(store: Path, step: str) -> Path:
    """The one folder of a step."""
    (folder,) = store.glob(f"{step}-*/")
    return folder


def step_seconds(store: Path, step: str) -> float:
    """How long a step ran."""
    status = json.loads((step_folder(store, step) / "status.json").read_text())
    return float(status["finished"] - status["started"])


def table(store: Path) -> dict[str, dict[str, str]]:
    """The rows of the sweep's table, by policy."""
    with (step_folder(store, "sweep") / "output" / "table.csv").open() as file:
        return {row["policy"]: row for row in csv.DictReader(file)}


def stored_tokens(store: Path) -> int:
    """Tokens in the finished records of decoded trees."""
    import pyarrow.parquet as pq

    total = 0
    for file in store.glob("traces/*/*.parquet"):
        lengths = pq.read_table(file, columns=["length"]).column("length")
        total += sum(lengths.to_pylist())
    return total


def orchestrate(clone: Path, store: Path) -> subprocess.Popen[bytes]:
    """A driver of its own session that runs the experiment with another store."""
    settings = [f"store={store}", f"tracking=sqlite:///{store}.db"]
    command = [sys.executable, "-m", "orchestrator", "run", EXPERIMENT]
    for setting in settings:
        command += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def killed_and_continued(clone: Path) -> tuple[int, int, int]:
    """Runs the sweep in a second store, killing its driver in the middle.

    Returns the tokens that were stored when it was killed, those decoded after, and the rows of the final table that
    differ from those of the undisturbed run.
    """
    first, second = clone / "runs", clone / "killed"
    second.mkdir()
    for step in ("letters", "tiny"):
        folder = step_folder(first, step)
        shutil.copytree(folder, second / folder.name)
    driver = orchestrate(clone, second)
    while driver.poll() is None:
        time.sleep(0.05)
        progress = [json.loads(file.read_text()) for file in second.glob("sweep-*/progress.json")]
        if progress and progress[0]["done"] >= progress[0]["total"] / 4:
            break
    else:
        sys.exit("the sweep was over before it could be killed")
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(5)
    before = stored_tokens(second)
    if orchestrate(clone, second).wait():
        sys.exit("the killed sweep did not finish when started again")
    decode = json.loads((step_folder(second, "sweep") / "output" / "decode.json").read_text())
    one, other = table(first), table(second)
    differing = sum(one.get(key) != other.get(key) for key in {*one, *other})
    return before, decode["thinking_tokens_decoded"] + decode["answer_tokens_decoded"], differing


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures here, by name")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="main-job-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(sys.prefix)
        first, _ = timed_sweep(clone)
        again, output = timed_sweep(clone)
        assert "everything is done" in output, output
        runs = clone / "runs"
        rows = table(runs)
        accuracy = {policy: float(row["accuracy"]) for policy, row in rows.items()}
        undisturbed = stored_tokens(runs)
        stored, decoded_after, differing = killed_and_continued(clone)
        figures = {
            "first_seconds": round(first, 1),
            "training_seconds": round(step_seconds(runs, "tiny"), 1),
            "sweep_seconds": round(step_seconds(runs, "sweep"), 1),
            "again_seconds": round(again, 1),
            "natural_accuracy": accuracy["auto"],
            "wait_gain_points": round(100 * (accuracy['1x"Wait"'] - accuracy["auto"]), 1),
            "hmm_gain_points": round(100 * (accuracy['1x"Hmm"'] - accuracy["auto"]), 1),
            "killed_rows_differing": differing,
            "killed_tokens_decoded_again": stored + decoded_after - undisturbed,
            "killed_tokens_kept_share": round(stored / undisturbed, 3),
        }
    shown = Table("figure", "measured", "must")
    musts = {
        "first_seconds": "<= 420",
        "training_seconds": "<= 300",
        "again_seconds": "<= 20",
        "wait_gain_points": ">= 25",
        "hmm_gain_points": "about 0",
        "killed_rows_differing": "0",
        "killed_tokens_decoded_again": "0 of finished units",
    }
    for name, value in figures.items():
        shown.add_row(name, f"{value:g}", musts.get(name, ""))
    Console().print(shown)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
