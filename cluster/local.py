"""A Ray head on this machine's loopback interface, for as long as one command runs.

    python -m cluster.local ray job submit experiments/scaling_sweep.yaml
    python -m cluster.local --plan experiments/scaling_sweep.yaml ray job submit experiments/scaling_sweep.yaml
    python -m cluster.local --autoscaling cluster/local.yaml ray job submit experiments/scaling_sweep.yaml

With ``--plan``, what an experiment would do is shown while the head starts. The command then runs only if something is
to be done: an experiment that cannot be run as written is refused, and of one that is done the result is shown.

With ``--autoscaling``, the head is one of Ray's autoscaler and a cluster file of simulated machines, each a raylet of
its own that comes when something asks for it and goes when it is idle.

Without, if a cluster answers already (RAY_API_SERVER_ADDRESS, else Ray's usual dashboard port), the command gets that
one, and nothing is started or stopped. Otherwise a head starts on free ports, and all of it is gone when the command
ends.

``ray start`` replaces a loopback address by one that other machines reach, so that they can join. Nothing joins here,
and Ray's servers execute code for whoever reaches them, so that is turned off, and a token is asked for besides: other
users of this machine reach the loopback interface too.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from cluster.own_ray import closed, new_token

USUAL_PORT = 8265
USUAL_ADDRESS = f"http://127.0.0.1:{USUAL_PORT}"

LONGEST_ANSWER = 1 << 16
"""Bytes that are read of an answer to the question who is there."""

FAKE_HEAD_NODE_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""The head's id with Ray's provider of simulated machines."""

START_LIMIT = 120.0
"""Seconds for a head to answer; 5 are usual."""

SIMULATION: Mapping[str, str] = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
}
"""What Ray asks of the environment of a head with simulated machines.

The second version of its autoscaler, because it takes a gang as one: asked for 5 machines where 4 can be had, it brings
none, where the first brings 4 and leaves them waiting for the fifth.
"""

STOP_LIMIT = 3.0
"""Seconds for jobs to end when asked, and for what is left to end when killed."""


TO_BE_RUN = 4
"""What ``plan --detailed-exitcode`` exits with where steps would run."""


class HeadError(Exception):
    """The head did not start; the message ends with the last lines of its log."""


class NothingToRun(Exception):
    """The plan says that no head is needed."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status
        """The plan's: 0 where everything is done, else it was refused."""


def answers(address: str) -> bool:
    """Whether a Ray dashboard answers at an ``http://host:port`` address, with or without asking for a token.

    Anything else may listen there: Ray says its version, or that a token is missing or wrong.
    """
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=2) as answer:
            version = json.loads(answer.read(LONGEST_ANSWER))
            return isinstance(version, dict) and "ray_version" in version
    except urllib.error.HTTPError as error:
        return error.code in (401, 403) and b"authentication token" in error.read(LONGEST_ANSWER)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def is_ours(port: int) -> bool:
    """Whether it is this user's process that listens at a port: another user's cluster is not to be run on unasked."""
    holders = {
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and getattr(each.laddr, "port", None) == port
    }
    with contextlib.suppress(psutil.Error):
        return all(pid is not None and psutil.Process(pid).uids().real == os.getuid() for pid in holders)
    return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    """A TCP port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def head(
    cpus: int | None = None,
    gpus: int | None = None,
    autoscaling: Path | None = None,
    plan: subprocess.Popen[bytes] | None = None,
) -> Iterator[Mapping[str, str]]:
    """Starts a head; yields the environment with which the ray command line and drivers reach it.

    `autoscaling` is a cluster file of simulated machines; the head then has what that file gives it, not `cpus` and
    `gpus`. Yields once jobs can be submitted, and `plan` has said that something is to be run. Raises HeadError where
    it does not come up, and NothingToRun as soon as `plan` says so.
    """
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        token = new_token(Path(folder))
        address = f"http://127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "RAY_API_SERVER_ADDRESS": address,
            **closed(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):  # a token that is said itself would go before the file
            environment.pop(name, None)
        command = ["ray", "start", "--head", "--block", "--dashboard-host=127.0.0.1"]
        command += [f"--dashboard-port={address.rpartition(':')[2]}", f"--temp-dir={folder}/r", "--log-style=record"]
        agent = free_port()
        command += [f"--dashboard-agent-listen-port={agent}", "--include-log-monitor=false"]
        simulation: Mapping[str, str] = {}
        if autoscaling is None:
            command += ["--port=0", "--no-monitor"]
            command += [f"--num-cpus={cpus}"] if cpus is not None else []
            command += [f"--num-gpus={gpus}"] if gpus is not None else []
        else:
            command += _autoscaled(autoscaling, free_port(), Path(folder) / "cluster.yaml")
            simulation = SIMULATION
        log = Path(folder) / "head.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name(command[0])), *command[1:]],
                env={**environment, **simulation},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_until_up(process, address, agent, log, plan)
            yield environment
        finally:
            _stop(process)


def _autoscaled(file: Path, port: int, filled_in: Path) -> list[str]:
    """Writes the cluster file with the head's port filled in; returns the options that start the head of it."""
    cluster = yaml.safe_load(file.read_text())
    provider = cluster.get("provider", {})
    if "fake_multi_node" not in provider.get("module", ""):
        raise HeadError(
            f"{file}: provider.type is {provider.get('type')!r}, which one machine has not: start it with ray up {file}"
        )
    provider["gcs_address"] = f"127.0.0.1:{port}"
    filled_in.write_text(yaml.safe_dump(cluster))
    head = cluster["available_node_types"][cluster["head_node_type"]]["resources"]
    counts = [f"--num-{kind.lower()}s={head.get(kind, 0)}" for kind in ("CPU", "GPU")]
    return [f"--port={port}", f"--autoscaling-config={filled_in}", *counts]


def _wait_until_up(
    process: subprocess.Popen[bytes], address: str, agent: int, log: Path, plan: subprocess.Popen[bytes] | None
) -> None:
    """Waits for the dashboard and for its agent, which is what starts jobs and comes up later; and for the plan."""
    up, deadline = False, time.monotonic() + START_LIMIT
    while True:
        planning = plan is not None and _plans(plan)
        up = up or (answers(address) and _listens(agent))
        if up and not planning:
            return
        if process.poll() is not None or (not up and time.monotonic() > deadline):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise HeadError(f"the Ray head did not start:\n{tail}")
        time.sleep(0.1)


def _plans(plan: subprocess.Popen[bytes]) -> bool:
    """Whether it still does. Raises NothingToRun."""
    status = plan.poll()
    if status not in (None, TO_BE_RUN):
        raise NothingToRun(status)
    return status is None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the head and what it started: all of it is in one session, so nothing of another cluster is touched.

    Jobs that still run are asked to end, and end what they started. The rest leaves nothing behind that is worth the
    seconds that it takes to end by itself.
    """
    jobs = [member for member in _session(process.pid) if _is_job(member)]
    for job in jobs:
        with contextlib.suppress(psutil.NoSuchProcess):
            job.terminate()
    _wait_for_the_end(jobs)
    members = _session(process.pid)
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    _wait_for_the_end(members)
    process.wait()


def _wait_for_the_end(processes: Sequence[psutil.Process]) -> None:
    """For `STOP_LIMIT` seconds at most. What has ended and was not yet collected by its parent counts as gone."""
    deadline = time.monotonic() + STOP_LIMIT
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _is_job(process: psutil.Process) -> bool:
    """Whether it is a job's entrypoint, or what that started: Ray says in their environment what the job is."""
    with contextlib.suppress(psutil.Error):
        return "RAY_JOB_CONFIG_JSON_ENV_VAR" in process.environ()
    return False


def _session(leader: int) -> list[psutil.Process]:
    """The processes of a session."""
    processes = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(candidate.pid) == leader:
                processes.append(candidate)
    return processes


def main(command: list[str]) -> int:
    """Runs a command against a running cluster, or against one of its own; returns the command's exit status."""
    files: dict[str, Path] = {}
    while command[:1] in (["--autoscaling"], ["--plan"]):
        files[command[0]] = Path("".join(command[1:2]))
        command = command[2:]
    autoscaling, experiment = files.get("--autoscaling"), files.get("--plan")
    if not command or (autoscaling and not autoscaling.is_file()):
        missing = f"{autoscaling} is not a file\n" if autoscaling and command else ""
        usage = "usage: python -m cluster.local [--autoscaling FILE] [--plan EXPERIMENT] COMMAND [ARGUMENT ...]"
        print(f"{missing}{usage}", file=sys.stderr)
        return 2
    named = os.environ.get("RAY_API_SERVER_ADDRESS")
    running = named or USUAL_ADDRESS
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if autoscaling is None and named and not answers(named):
        print(f"RAY_API_SERVER_ADDRESS: no Ray cluster answers at {named}: start one, or unset it", file=sys.stderr)
        return 1
    try:
        with _planning(experiment) as plan:
            if autoscaling is None and (named or (is_ours(USUAL_PORT) and answers(running))):
                if plan is not None and plan.wait() != TO_BE_RUN:
                    raise NothingToRun(plan.returncode)
                print(f"using the Ray cluster at {running}", flush=True)
                return subprocess.call(command, env={**os.environ, "RAY_API_SERVER_ADDRESS": running})
            with head(autoscaling=autoscaling, plan=plan) as environment:
                print(f"started a Ray head at {environment['RAY_API_SERVER_ADDRESS']} for this command", flush=True)
                return subprocess.call(command, env=environment)
    except NothingToRun as reason:
        return reason.status or subprocess.call([sys.executable, "-m", "orchestrator", "run", str(experiment)])
    except HeadError as error:
        print(error, file=sys.stderr)
        return 1


@contextmanager
def _planning(experiment: Path | None) -> Iterator[subprocess.Popen[bytes] | None]:
    """Shows what an experiment would do, meanwhile; its exit status says whether it is to be run."""
    if experiment is None:
        yield None
        return
    command = [sys.executable, "-m", "orchestrator", "plan", "--detailed-exitcode", str(experiment)]
    with subprocess.Popen(command) as plan:
        try:
            yield plan
        finally:
            plan.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
