"""Machines that come when there is work and go when there is not: Ray's real autoscaler on simulated machines.

    python benchmarks/autoscaling.py [--json FILE] [--gang 16] [--replicas 4]

The shipped experiment, shortened, on the cluster of ``cluster/local.yaml``: machines of 8 CPUs, none to begin with, 4
at most. Training wants a gang (16 workers of one CPU: two machines, both or none), the sweep up to 4 replicas of a
machine each. Prints how many machines there were beside what the experiment was doing. About three minutes on two
cores, most of them spent starting Python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster import local

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "cluster" / "local.yaml"
PATIENCE = 120.0
"""Seconds after the experiment's end within which all machines must be gone."""


@dataclass(frozen=True)
class Moment:
    """What there was at one time."""

    seconds: float
    """Since the submission."""
    doing: str
    """The steps that run, or ``nothing``."""
    machines: int
    """Without the head."""


def observe(settings: list[str], store: Path, environment: Mapping[str, str]) -> Iterator[Moment]:
    """Submits the shipped experiment with `settings` to the cluster of `environment`; yields until all machines went.

    Raises RuntimeError where the experiment fails, or machines stay for longer than `PATIENCE` after its end.
    """
    overrides = [part for setting in settings for part in ("--set", setting)]
    command = ["ray", "job", "submit", "--", "experiments/scaling_sweep.yaml", *overrides]
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            ended = None
            while True:
                running = process.poll() is None
                machines = _machines(environment)
                yield Moment(round(time.monotonic() - began, 1), _doing(store) if running else "nothing", machines)
                if not running:
                    if process.returncode:
                        output.seek(0)
                        raise RuntimeError(f"the experiment failed:\n{output.read()}")
                    ended = ended or time.monotonic()
                    if not machines:
                        return
                    if time.monotonic() - ended > PATIENCE:
                        raise RuntimeError(f"{machines} machines were still there after {PATIENCE:.0f} s of idleness")
                time.sleep(0.5)
        finally:
            process.kill()
            process.wait()


def _machines(environment: Mapping[str, str]) -> int:
    """How many raylets the cluster has besides the head's. Asked over HTTP: Ray's client reads its token at import."""
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    address = f"{environment['RAY_API_SERVER_ADDRESS']}/api/v0/nodes"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        nodes = json.load(answer)["data"]["result"]["result"]
    return sum(node["state"] == "ALIVE" and not node["is_head_node"] for node in nodes)


def _doing(store: Path) -> str:
    """The steps whose status says that they run."""
    states = {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in store.glob("*/status.json")}
    return ", ".join(name for name, status in sorted(states.items()) if status["state"] == "running") or "nothing"


def settings(store: Path, tracking: Path, gang: int, replicas: int, cpus: int) -> list[str]:
    """The shipped experiment with less training, on a gang and on replicas that take a machine of `cpus` each."""
    return [
        f"store={store}",
        f"tracking=sqlite:///{tracking}",
        "steps.letters.train=640",
        "steps.letters.test=64",
        f"steps.tiny.resources.workers={gang}",
        f"steps.sweep.resources.cpus={cpus}",
        "steps.sweep.resources.in_flight=8",
        f"steps.sweep.resources.replicas.max={replicas}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gang", type=int, default=16, metavar="WORKERS")
    parser.add_argument("--replicas", type=int, default=4, help="at most")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder, local.head(autoscaling=CLUSTER) as environment:
        store = Path(folder) / "runs"
        wanted = settings(store, Path(folder) / "mlflow.db", options.gang, options.replicas, 8)
        moments = []
        with console.status("submitting") as status:
            for moment in observe(wanted, store, environment):
                status.update(f"{moment.seconds:.0f} s: {moment.doing}, {moment.machines} machines")
                moments.append(moment)
    table = Table(title="machines over time, head aside")
    for column in ("from", "to", "the experiment runs", "machines"):
        table.add_column(column, justify="right" if column != "the experiment runs" else "left")
    for (doing, machines), group in groupby(moments, key=lambda moment: (moment.doing, moment.machines)):
        same = list(group)
        table.add_row(f"{same[0].seconds:.0f} s", f"{same[-1].seconds:.0f} s", doing, f"{machines} {'█' * machines}")
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(moment) for moment in moments], indent=1))


if __name__ == "__main__":
    main()
