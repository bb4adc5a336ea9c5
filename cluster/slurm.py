"""An experiment on Slurm: submitted from a login node, and what its job then does on its nodes.

    python -m cluster.slurm --nodes 2 --gpus-per-node 8 --time 12:00:00 experiments/scaling_sweep.yaml
    python -m cluster.slurm experiments/scaling_sweep.yaml        # inside salloc: runs there

Outside of an allocation this is ``sbatch`` with ``cluster/slurm.sbatch``; inside it is the job: Ray on all nodes alike,
each with all that Slurm gives it, and ``python -m orchestrator run`` on the first.

A job ends for reasons that are no fault of the experiment, and the store has what was done, so:

- Before the **time limit** Slurm sends SIGUSR1 (``--signal``): the run is stopped as Ctrl-C does it, and the job is put
  back into the queue.
- **Preempted**, it is stopped in the same way and put back, unless Slurm does that itself.
- A **node** whose Ray ends while the job runs gets it again; one that is gone for good ends the job, which Slurm puts
  back.
- ``scancel`` is meant: the run is stopped, and the job is gone.
- Three starts in a row that got no further (:mod:`cluster.slurm_restarts`) end the job: a fourth would not either.

With ``--give-back MINUTES``, nodes that had nothing to do for so long leave the job, where the site lets jobs shrink.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.slurm_restarts import MOST, Restarts

SCRIPT = Path(__file__).with_name("slurm.sbatch")
POLL = 0.5
"""Seconds between looks at what runs."""

START_SECONDS = 120.0
"""For Ray's head to answer."""
STOP_SECONDS = 100.0
"""For the run to stop by itself, well within what ``--signal`` leaves."""
AGAIN_SECONDS = 5.0
"""Before Ray is started again on a node where it ended."""
LOOK_SECONDS = 15.0
"""Between looks for nodes that idle."""

LABEL = "slurm-node"
"""Of Ray's nodes: what Slurm calls them."""


def submission(arguments: Sequence[str]) -> list[str]:
    """The ``sbatch`` command for these options and this experiment: options of Slurm come before FILE."""
    at = next((at for at, word in enumerate(arguments) if word.endswith((".yaml", ".yml"))), None)
    if at is None:
        raise ValueError("give the experiment's FILE, a .yaml; options for sbatch come before it")
    return ["sbatch", *arguments[:at], str(SCRIPT), *arguments[at:]]


def cpus_per_node(text: str) -> list[int]:
    """``SLURM_JOB_CPUS_PER_NODE``, spelled out: ``72(x2),36`` is 72, 72, 36."""
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if match is None:
            raise ValueError(f"SLURM_JOB_CPUS_PER_NODE: {text!r} is not what Slurm writes, such as 72(x2),36")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def is_preempted(job: str) -> bool:
    """Whether ``scontrol show job -o`` says that the job makes room for another."""
    return re.search(r"\bPreemptTime=(?!None)\d", job) is not None


def idle_nodes(states: Sequence[tuple[str, float, bool]], waiting: bool, minutes: float, head: str) -> list[str]:
    """The nodes to give back: (node, seconds idle, alive) each; none while something `waiting` asks for room, and never
    the `head`, where the experiment runs."""
    if waiting:
        return []
    return [node for node, seconds, alive in states if alive and node != head and seconds >= 60 * minutes]


def _said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class SlurmJob:
    """The job that this process is the batch script of."""

    id: str
    nodes: list[str]
    """The first is this one."""
    cpus: Mapping[str, int]
    folder: Path
    """For Ray's sockets and logs, on each node: its name is short."""
    environment: Mapping[str, str]
    address: str
    steps: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """Ray on each node."""
    due: dict[str, float] = field(default_factory=dict)
    """When it is started again where it ended."""
    received: list[int] = field(default_factory=list)
    look_at: float = 0.0
    may_shrink: bool = True

    @classmethod
    def here(cls, folder: Path) -> SlurmJob:
        """From Slurm's environment."""
        nodes = _said("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()
        cpus = cpus_per_node(os.environ["SLURM_JOB_CPUS_PER_NODE"])
        here = os.environ.get("SLURMD_NODENAME", nodes[0])
        counted = dict(zip(nodes, cpus, strict=True))
        nodes.sort(key=lambda node: node != here)
        address = f"{_address_of_this_machine()}:{_free_port()}"
        environment = {
            **os.environ,
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        return cls(os.environ["SLURM_JOB_ID"], nodes, counted, folder, environment, address)

    @property
    def head(self) -> str:
        return self.nodes[0]

    def say(self, text: str) -> None:
        print(f"slurm job {self.id}: {text}", flush=True)

    def start(self, node: str) -> None:
        """Ray on a node: its head on this one, and on the others a step of the job each."""
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--log-style=record"]
        ray += [f"--num-cpus={self.cpus[node]}", f"--labels={LABEL}={node}", "--disable-usage-stats"]
        if node == self.head:
            host, _, port = self.address.rpartition(":")
            command = [*ray, "--head", f"--node-ip-address={host}", f"--port={port}"]
            command += ["--include-dashboard=false", f"--temp-dir={self.folder}"]
        else:
            command = ["srun", "--nodes=1", "--ntasks=1", f"--nodelist={node}", f"--cpus-per-task={self.cpus[node]}"]
            command += ["--overlap", "--mem=0", "--cpu-bind=none", "--kill-on-bad-exit=0", "--unbuffered"]
            command += [f"--output={self.folder.name}-{node}.log", "--open-mode=append"]
            command += [*ray, f"--address={self.address}"]
        output = subprocess.DEVNULL if node == self.head else None
        self.steps[node] = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, start_new_session=True
        )

    def wait_for_head(self) -> None:
        """Returns early once a signal was received. Raises TimeoutError where Ray does not come up."""
        host, _, port = self.address.rpartition(":")
        deadline = time.monotonic() + START_SECONDS
        while not self.received:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                return
            if self.steps[self.head].poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"Ray does not start on {self.head}: see {self.folder}/session_latest/logs")
            time.sleep(POLL)

    def keep_up(self) -> None:
        """Starts Ray again where it ended."""
        now = time.monotonic()
        for node in self.nodes[1:]:
            if self.steps[node].poll() is None:
                continue
            if node not in self.due:
                self.say(f"Ray ended on {node}: it is started again")
                self.due[node] = now + AGAIN_SECONDS
            elif now >= self.due[node]:
                del self.due[node]
                self.start(node)

    def give_back(self, minutes: float) -> None:
        """Lets go of nodes that had nothing to do for so long."""
        if not self.may_shrink or time.monotonic() < self.look_at:
            return
        self.look_at = time.monotonic() + LOOK_SECONDS
        states, ids, waiting = _ray_nodes(self)
        for node in idle_nodes(states, waiting, minutes, self.head):
            if node in self.nodes and _drained(self, ids[node]):
                self.release(node)

    def release(self, node: str) -> None:
        """Takes a node out of the job, or, where Slurm refuses, into use again."""
        rest = [each for each in self.nodes if each != node]
        command = ["scontrol", "update", f"JobId={self.id}", f"NodeList={','.join(rest)}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            self.may_shrink = False
            self.say(f"{node} idles, and cannot be given back: {done.stderr.strip() or done.stdout.strip()}")
            _end(self.steps[node])
            self.start(node)
            return
        self.nodes = rest
        _end(self.steps.pop(node))
        self.due.pop(node, None)
        for script in Path().glob(f"slurm_job_{self.id}_resize.*"):
            script.unlink()
        self.say(f"gave back {node}, which had nothing to do; left: {', '.join(rest)}")

    def stop(self) -> None:
        """Ends Ray wherever it was started; the head last, or the others would look for it."""
        for node in reversed([node for node in self.nodes if node in self.steps]):
            _end(self.steps[node])
        shutil.rmtree(self.folder, ignore_errors=True)

    def requeue(self, why: str) -> None:
        self.say(f"{why}: the job goes back into the queue")
        done = subprocess.run(["scontrol", "requeue", self.id], capture_output=True, text=True)
        if done.returncode:
            self.say(f"Slurm does not requeue it ({done.stderr.strip()}): submit the same again, it goes on")


def run(words: Sequence[str], minutes: float | None) -> int:
    """Runs the experiment on this allocation; returns its exit status."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        job = SlurmJob.here(Path(folder))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda received, frame: job.received.append(received))
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        job.say(f"{len(job.nodes)} nodes ({', '.join(job.nodes)}), restart {restarts}")
        starts = Restarts.begin(job.id, words)
        if starts.idle >= MOST:  # Slurm itself has put it back, after a preemption or a lost node
            return _given_up(job, starts)
        try:
            job.start(job.head)
            job.wait_for_head()
            status = _stopped_early(job) if job.received else _run(job, words, minutes)
        except TimeoutError as error:
            starts.forget()
            job.say(str(error))
            return 1
        finally:
            job.stop()
    why = _why_again(job) if status not in (0, 1, 2, 3) else None
    if why is None:
        starts.forget()
    elif starts.hopeless():
        return _given_up(job, starts)
    else:
        job.requeue(why)
    return status


def _run(job: SlurmJob, words: Sequence[str], minutes: float | None) -> int:
    for node in job.nodes[1:]:
        job.start(node)
    command = [sys.executable, "-m", "orchestrator", "run", *words]
    experiment = subprocess.Popen(command, env=job.environment, start_new_session=True)
    return _watched(job, experiment, minutes)


def _stopped_early(job: SlurmJob) -> int:
    job.say(f"{signal.Signals(job.received[0]).name}: stopping before the run has begun")
    return 128 + job.received[0]


def _why_again(job: SlurmJob) -> str | None:
    """Why a job whose run was stopped goes back into the queue; None where it does not."""
    if signal.SIGUSR1 in job.received:
        return "the time limit is near"
    if job.received and is_preempted(_said("scontrol", "show", "job", "-o", job.id)):
        return "preempted"
    return None


def _given_up(job: SlurmJob, starts: Restarts) -> int:
    """Says that the job is not put back; returns its exit status."""
    starts.forget()
    job.say(
        f"{MOST} starts in a row got no further, so it is not put back into the queue: give it a longer --time than it "
        "takes to start (or checkpoint_every fewer steps), and submit the same again: it goes on from its store"
    )
    return 1


def _watched(job: SlurmJob, experiment: subprocess.Popen[bytes], minutes: float | None) -> int:
    """Until the experiment has ended, by itself or because it was told to."""
    told: float | None = None
    while (status := experiment.poll()) is None:
        if job.received and told is None:
            told = time.monotonic()
            job.say(f"{signal.Signals(job.received[0]).name}: stopping the run")
            experiment.terminate()
        if told is None:
            job.keep_up()
            if minutes is not None:
                job.give_back(minutes)
        elif time.monotonic() - told > STOP_SECONDS:
            job.say("the run does not stop: it is killed, and loses what it had not written")
            experiment.kill()
        time.sleep(POLL)
    return status if status >= 0 else 128 - status


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: they are a session of their own."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def _ray_nodes(job: SlurmJob) -> tuple[list[tuple[str, float, bool]], dict[str, str], bool]:
    """What Ray says of each node, its ids by their names in Slurm, and whether anything waits for room."""
    with _ray_environment(job):
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.autoscaler.v2.sdk import get_cluster_resource_state
        from ray.core.generated.autoscaler_pb2 import NodeStatus

        state = get_cluster_resource_state(GcsClient(address=job.address))
    states, ids = [], {}
    for each in state.node_states:
        node = each.labels.get(LABEL)
        if node and each.status != NodeStatus.DEAD:
            idle = each.status == NodeStatus.IDLE
            states.append((node, each.idle_duration_ms / 1000 if idle else 0.0, idle))
            ids[node] = each.node_id.hex()
    return states, ids, bool(state.pending_resource_requests or state.pending_gang_resource_requests)


def _drained(job: SlurmJob, node_id: str) -> bool:
    """Whether Ray lets go of a node: not where something was placed there meanwhile."""
    with _ray_environment(job):
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated.autoscaler_pb2 import DrainNodeReason

        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_IDLE_TERMINATION")
        accepted, _ = GcsClient(address=job.address).drain_node(node_id, reason, "it had nothing to do", 2**62)
    return bool(accepted)


@contextlib.contextmanager
def _ray_environment(job: SlurmJob) -> Iterator[None]:
    """Ray reads its token from the environment."""
    os.environ.update({name: job.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")})
    yield


def _address_of_this_machine() -> str:
    """The one that others reach: of the interface that the default route goes through."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: TEST-NET is nobody's
        return str(probe.getsockname()[0])
    return socket.gethostbyname(socket.gethostname())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """Submits, or runs where there is an allocation; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.slurm",
        usage="python -m cluster.slurm [SBATCH OPTION ...] FILE [--set KEY=VALUE ...] [--give-back MINUTES]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--give-back", type=float, metavar="MINUTES", help="let go of nodes that idle for so long")
    if not arguments or arguments[0] in ("-h", "--help"):
        parser.print_help()
        return 0 if arguments else 2
    if "SLURM_JOB_ID" not in os.environ:
        try:
            command = submission(arguments)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        if shutil.which("sbatch") is None:
            print("sbatch is not there: run this on a login node of the cluster", file=sys.stderr)
            return 2
        return subprocess.call(command, env={**os.environ, "SCALING_PYTHON": sys.executable})
    known, words = parser.parse_known_args(arguments)
    return run(words, known.give_back)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
