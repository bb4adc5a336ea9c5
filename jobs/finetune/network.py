"""The network between the workers of a gang: chosen before they connect, then said, and measured against the catalogue.

NCCL falls back to TCP without a word where a fabric is there and its plugin is not, and trains at a tenth of the speed.
So where machines have one, it is told to take that or fail. gloo binds to whatever the host name means, which may be an
interface that others do not reach; it gets the one that leads to them. What the user has set in the environment stays.
"""

from __future__ import annotations

import os
import re
import socket
import tempfile
import time
from pathlib import Path

import psutil
import torch
import torch.distributed as dist

from cluster.catalogue import MachineType
from orchestrator.job.errors import StepError

SHARE = 0.5
"""Of the catalogue's bandwidth; below, something is wrong with the network rather than with the catalogue."""
SECONDS = 3.0
"""The measurement takes this long at most, but for one last sum."""
SMALLEST, LARGEST = 1 << 20, 1 << 28
"""Bytes that are summed at once: as many as make latency not count, at most as many as a layer of a large model has."""
LONG_ENOUGH = 0.1
"""Seconds of one sum in which latency does not count."""

_FABRICS = Path("/sys/class/infiniband")
_NETS = {"efa": "AWS Libfabric", "infiniband": "IB"}
"""What NCCL calls the networks of fabrics."""
_TAKEN = re.compile(r"Using network (.+)")


def choose(master: str, *, nodes: int, fabrics: Path = _FABRICS) -> None:
    """Sets this process's environment for gloo and NCCL, before it connects to the gang at `master`."""
    if (device := interface(master)) is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", device)
    if nodes > 1 and (kind := fabric(fabrics)) is not None:
        os.environ.setdefault("NCCL_NET", _NETS[kind])
    if "NCCL_DEBUG" not in os.environ:
        # The only way to learn what NCCL took.
        os.environ.update(NCCL_DEBUG="INFO", NCCL_DEBUG_SUBSYS="INIT", NCCL_DEBUG_FILE=str(_log()))


def nodes() -> int:
    """On how many the gang of this process is, as torchrun and Ray Train say in its environment."""
    return -(-int(os.environ.get("WORLD_SIZE", 1)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def interface(address: str) -> str | None:
    """The name of the interface from which this machine reaches `address`; None where that cannot be told."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)  # sends nothing
            local = probe.getsockname()[0]
    except OSError:
        return None
    names = (name for name, known in psutil.net_if_addrs().items() if local in {each.address for each in known})
    return next(names, None)


def fabric(devices: Path = _FABRICS) -> str | None:
    """``efa`` or ``infiniband`` where this machine has such a device that is up; None where it has neither."""
    for device in sorted(devices.glob("*")):
        if (device / "device" / "driver").resolve().name == "efa":
            return "efa"
        for port in (device / "ports").glob("*"):
            up = "ACTIVE" in (port / "state").read_text()
            if up and (port / "link_layer").read_text().strip() == "InfiniBand":
                return "infiniband"
    return None


def check(device: torch.device, where: MachineType, cards: int, *, nodes: int, fabrics: Path = _FABRICS) -> None:
    """Says what the gang is connected by, and warns where it is slow for `cards` of `where`. Called by all workers.

    Raises StepError where NCCL does not take the fabric that is there.
    """
    try:
        measured = bandwidth(device)
    except dist.DistBackendError as error:
        net = os.environ.get("NCCL_NET")
        if device.type != "cuda" or net is None or f"network {net} not found" not in str(error):
            raise
        raise StepError(_without_fabric(net, "NCCL does not find it")) from error
    by = f"gloo over {os.environ.get('GLOO_SOCKET_IFNAME', 'the interface of the host name')}"
    if device.type == "cuda":
        net = transport()
        _log().unlink(missing_ok=True)
        kind = fabric(fabrics)
        if nodes > 1 and kind is not None and net == "Socket" and os.environ.get("NCCL_NET") != "Socket":
            raise StepError(_without_fabric(_NETS[kind], "NCCL took TCP"))
        by = f"NCCL over {net or 'a network that its log does not name'}, {by}"
    expected = where.interconnect(cards)
    said = f"{measured / 1e9:.2f} GB/s past each worker, of {expected / 1e9:g} that {where.name} is planned with"
    if dist.get_rank() == 0:
        print(f"Network: {by}, {nodes} node{'s' * (nodes > 1)}: {said}", flush=True)
        if measured < SHARE * expected:
            times = f"{expected / measured:.0f} times as long as planned"
            print(
                f"warning: the network is slow: {said}. Steps that wait for it take {times}: see that the machines are "
                "of that kind and near each other, and that the transport is the one meant",
                flush=True,
            )


def transport() -> str | None:
    """The network that NCCL says it took: ``Socket``, ``IB``, ``AWS Libfabric``; None where it does not say."""
    file = os.environ.get("NCCL_DEBUG_FILE")
    if file is None or not Path(file).is_file():
        return None
    transports = _TAKEN.findall(Path(file).read_text(errors="replace"))
    return transports[-1].strip() if transports else None


def bandwidth(device: torch.device) -> float:
    """Bytes per second that pass each worker while all sum up a tensor: what NCCL's tests call bus bandwidth."""
    workers = dist.get_world_size()
    began, size, best = time.perf_counter(), SMALLEST, 0.0
    dist.all_reduce(torch.zeros(1, device=device))  # connects
    while True:
        tensor = torch.zeros(size // 4, device=device)
        _wait(device)
        dist.barrier()
        at = time.perf_counter()
        dist.all_reduce(tensor)
        _wait(device)
        # All must decide alike, so the slowest counts.
        times = torch.tensor([time.perf_counter() - at, time.perf_counter() - began], device=device)
        dist.all_reduce(times, dist.ReduceOp.MAX)
        seconds, in_all = times.tolist()
        best = max(best, 2 * (workers - 1) / workers * size / seconds)
        enough = seconds >= LONG_ENOUGH or size == LARGEST
        if in_all > SECONDS or (enough and in_all > SECONDS / 3):
            return best
        size = size if enough else min(2 * size, LARGEST)


def _log() -> Path:
    """Where NCCL writes for this process."""
    return Path(tempfile.gettempdir()) / f"nccl-{os.getpid()}.log"


def _without_fabric(net: str, used: str) -> str:
    return (
        f"resources.machine: the machines have a fabric that NCCL calls {net!r}, and {used}: it would train over TCP, "
        "many times slower. Install its plugin where workers run (aws-ofi-nccl for EFA, which Amazon's deep learning "
        "images have), or accept TCP with NCCL_NET=Socket in their environment"
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
