"""Machines with addresses and cables of their own: raylets of this machine in network namespaces, which need root."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from orchestrator.job.resources import NAMESPACE

ROOT = Path(__file__).parents[1]


class Network:
    """A switch, this machine at its first address, and machines that are plugged in one after the other."""

    def __init__(self) -> None:
        self._name = f"n{random.randrange(16**6):06x}"
        self._subnet = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
        self._machines = 0

    @property
    def address(self) -> str:
        """Of this machine."""
        return f"{self._subnet}.1"

    @contextmanager
    def switched_on(self) -> Iterator[Network]:
        _ip("link", "add", self._name, "type", "bridge")
        try:
            _ip("address", "add", f"{self.address}/24", "dev", self._name)
            _ip("link", "set", self._name, "up")
            yield self
        finally:
            _ip("link", "delete", self._name)

    @contextmanager
    def machine(self) -> Iterator[NetworkMachine]:
        """One more. Leaving ends all that runs on it."""
        self._machines += 1
        name, address = f"{self._name}-{self._machines}", f"{self._subnet}.{self._machines + 1}"
        machine = NetworkMachine(name, address)
        _ip("netns", "add", name)
        try:
            _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", name, "master", self._name, "up")
            for command in (["address", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                _ip("-netns", name, *command)
            _ip("-netns", name, "link", "set", "lo", "up")
            yield machine
        finally:
            for process in machine.processes():
                os.kill(process, signal.SIGKILL)
            _ip("netns", "delete", name)


class NetworkMachine:
    """One on the network."""

    def __init__(self, name: str, address: str):
        self._name = name
        self.address = address

    def join(self, cluster: str) -> None:
        """Makes it a node of a Ray cluster."""
        start = [str(Path(sys.executable).with_name("ray")), "start", "--address", cluster, "--num-cpus=1"]
        command = ["ip", "netns", "exec", self._name, *start, "--node-ip-address", self.address]
        # gloo would look the machine's name up, which is that of the one that all of them are on.
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "eth0"}
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment)

    def runs(self, name: str) -> bool:
        """Whether a process whose command line contains that does."""
        here = set(self.processes())
        processes = psutil.process_iter(["pid", "cmdline"])
        return any(process.pid in here and name in " ".join(process.info["cmdline"] or ()) for process in processes)

    def processes(self) -> list[int]:
        """Of everything that runs on it."""
        return [int(pid) for pid in _ip("netns", "pids", self._name).split()]

    def switch_off(self) -> None:
        """Ends everything on it at the same moment."""
        running = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in running:
                os.kill(process, number)

    def unplug(self) -> None:
        """Everything on it goes on, and nobody hears of it."""
        _ip("link", "set", self._name, "down")

    def plug_in(self) -> None:
        """Undoes :meth:`unplug`."""
        _ip("link", "set", self._name, "up")


@contextmanager
def wired_cluster(count: int) -> Iterator[list[NetworkMachine]]:
    """A Ray cluster of so many machines of a CPU each, and a head without, connected to."""
    folder = tempfile.mkdtemp(prefix="nc", dir="/tmp")  # Ray's socket paths must be short.
    with ExitStack() as stack:
        network = stack.enter_context(Network().switched_on())
        machines = [stack.enter_context(network.machine()) for _ in range(count)]
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, "node_ip_address": network.address}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        stack.callback(cluster.shutdown)
        for machine in machines:
            machine.join(cluster.address)
        environment = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        ray.init(
            cluster.address,
            namespace=NAMESPACE,
            log_to_driver=False,
            _node_ip_address=network.address,
            runtime_env=environment,
        )
        stack.callback(ray.shutdown)
        yield machines
    shutil.rmtree(folder)


def _ip(*arguments: str) -> str:
    try:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise SystemExit("machines with cables of their own need the program `ip`: install iproute2") from None
    except subprocess.CalledProcessError as error:
        command = " ".join(["ip", *arguments])
        raise SystemExit(f"machines with cables of their own need root: `{command}`: {error.stderr.strip()}") from None
