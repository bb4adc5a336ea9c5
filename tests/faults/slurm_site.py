"""A Slurm of this machine: munge, a controller, and several nodes that are each a slurmd of its own port.

Needs root and Debian's ``slurm-wlm`` and ``munge``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.local import free_port

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmdTimeout=15
SchedulerParameters=sched_interval=5,requeue_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10 PreemptMode=OFF
"""


@dataclass(frozen=True)
class Site:
    """Where commands of Slurm find it."""

    folder: Path
    environment: Mapping[str, str]
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """The slurmd of each."""

    def start(self, node: str) -> None:
        """A node's slurmd."""
        command = [shutil.which("slurmd") or "slurmd", "-D", "-f", str(self.folder / "slurm.conf"), "-N", node]
        self.nodes[node] = _started(command, self.environment)

    def kill(self, node: str) -> None:
        """As where a node loses its power or its network: Slurm hears no more of it."""
        self.nodes[node].kill()
        self.nodes[node].wait()

    def stop(self) -> None:
        for process in self.nodes.values():
            _stop(process)

    def minutes(self, number: str) -> int:
        """That a job has run for."""
        hours, minutes, _ = map(int, self.job(number)["RunTime"].split(":"))
        return 60 * hours + minutes

    def said(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(words, env=self.environment, cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job."""
        said = self.said("scontrol", "show", "job", "-o", number)
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    def wait(self, number: str, state: str, seconds: float) -> dict[str, str]:
        deadline = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] != state:
            assert time.monotonic() < deadline, f"{job['JobState']}, not {state}: {job.get('Reason')}"
            time.sleep(0.5)
        return job


@contextmanager
def slurm(folder: Path, nodes: int, cpus: int) -> Iterator[Site]:
    """Of so many nodes, which have so many CPUs each as far as Slurm knows."""
    host = socket.gethostname().partition(".")[0]
    named = [f"n{number + 1}" for number in range(nodes)]
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={cpus} RealMemory=1000"
        for node in named
    ]
    for part in ("munge", "state", *(f"spool-{node}" for node in named)):
        (folder / part).mkdir()
    (folder / "munge").chmod(0o755)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, port=free_port(), folder=folder, nodes="\n".join(lines)))
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(config), "RAY_TMPDIR": ""}
    environment.pop("RAY_TMPDIR")
    munge = ["munged", "--foreground", f"--key-file={key}", f"--socket={folder}/munge/socket"]
    munge += [f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]
    daemons = [[*munge, "--force"], ["slurmctld", "-D", "-f", str(config)]]
    site = Site(folder, environment)
    with ExitStack() as stack:
        for command in daemons:
            process = _started([shutil.which(command[0]) or command[0], *command[1:]], environment)
            stack.callback(_stop, process)
            time.sleep(0.5)
        stack.callback(site.stop)
        for node in named:
            site.start(node)
        deadline = time.monotonic() + 60
        while site.said("sinfo", "-h", "-o", "%T %D", "-p", "main") != f"idle {nodes}":
            assert time.monotonic() < deadline, (folder / "ctld.log").read_text()[-3000:]
            time.sleep(0.5)
        try:
            yield site
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment)
            deadline = time.monotonic() + 30
            while site.said("squeue", "-h") and time.monotonic() < deadline:
                time.sleep(0.5)


def _started(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
