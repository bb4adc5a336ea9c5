"""What of this machine, or of the cluster it would use, would stop an experiment: looked at without starting anything.

Each check says what was found in a line, and what to do where that is a problem. They are independent: one that fails
hides no other.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from rich.filesize import decimal

from orchestrator.cluster_versions import NotAsked, Versions, of_cluster, of_dashboard
from orchestrator.complete import no_room_for_sockets
from orchestrator.store.errors import StoreError
from orchestrator.store.step_folders import Store
from orchestrator.store.storage import storage_path
from orchestrator.tracking.tracker import Tracker, TrackingError, without_credentials
from orchestrator.tracking.wandb_runs import WandbRuns

DISTRIBUTION = "scaling-orchestrator"
LEAST_DISK = 10e9
"""Bytes: a small model, its checkpoints and a sweep's traces."""
LEAST_TEMPORARY = 1e9
"""Bytes: Ray's logs and what it spills."""
LEAST_SHARED_MEMORY = 1e9
"""Bytes of /dev/shm: Ray's object store is there."""
PATIENCE = 3.0
"""Seconds for a machine of the network to answer."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    what: str
    said: str
    remedy: str = ""
    """What to do; empty where nothing is wrong."""


def findings(store: str, tracking: str, wandb: str) -> Iterator[Finding]:
    """All checks, of an experiment with this store and these trackers."""
    yield _python()
    yield _packages()
    yield from _gpus()
    yield _store(store)
    yield _tracking(tracking)
    if wandb:
        yield _wandb(wandb)
    yield _token()
    yield from _disk(store)
    yield _ports()
    yield from clusters()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= (3, 11)
    return Finding("python", version, "" if enough else "install Python 3.11 or newer, and the packages in it")


def _packages() -> Finding:
    """Whether what is installed is what this project asks for."""
    try:
        asked = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", f"{DISTRIBUTION} is not installed", "run make install, or pip install its wheel")
    wrong, met = [], 0
    for requirement in map(Requirement, asked):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, and {requirement.specifier} is asked for")
        met += 1
    if wrong:
        return Finding("packages", "; ".join(wrong), "run make install, or install the wheel again")
    return Finding("packages", f"{met} requirements are met")


def _gpus() -> Iterator[Finding]:
    """Cards, and whether torch can use them."""
    import torch

    cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
    seen = torch.cuda.device_count()
    if cards and not seen:
        build = torch.version.cuda or "CPUs"
        why = f"this machine has {cards}, and torch, which was built for {build}, sees none"
        yield Finding("GPUs", why, "install the CUDA builds: make GPU=1; and see that nvidia-smi works")
        return
    names = sorted({torch.cuda.get_device_name(number) for number in range(seen)})
    yield Finding("GPUs", f"{seen}: {', '.join(names)}" if seen else "none: models decode and learn on CPUs")
    if seen:
        try:
            yield Finding("vllm", importlib.metadata.version("vllm"))
        except importlib.metadata.PackageNotFoundError:
            yield Finding("vllm", "not installed, and GPUs decode with it", "make GPU=1, or engine: transformers")


def _store(store: str) -> Finding:
    try:
        opened = Store(storage_path(store))
        opened.check_reachable()
        opened.check_writable()
    except (StoreError, OSError) as error:
        return Finding("store", f"{store}: {error}", "see its address and rights, or set ORCHESTRATOR_STORE")
    return Finding("store", f"{store} can be written")


def _tracking(tracking: str) -> Finding:
    shown = without_credentials(tracking)
    try:
        if tracking.startswith("sqlite:///"):
            tempfile.TemporaryFile(dir=Path(tracking.removeprefix("sqlite:///")).parent).close()
        Tracker(tracking, "doctor").check()
    except (TrackingError, OSError) as error:
        return Finding("tracking", f"{shown}: {error}", "start the server, or set MLFLOW_TRACKING_URI")
    return Finding("tracking", f"{shown} answers")


def _wandb(folder: str) -> Finding:
    try:
        WandbRuns(Path(folder), "doctor").check()
    except TrackingError as error:
        said, _, remedy = str(error).removeprefix("wandb: ").rpartition(": ")
        return Finding("wandb", said, remedy)
    return Finding("wandb", f"offline runs go to {folder}")


def _token() -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return Finding("hub", "a token of Hugging Face's hub is there")
    return Finding("hub", "no token: what is public can be had; for the rest, hf auth login or HF_TOKEN")


def _disk(store: str) -> Iterator[Finding]:
    """Room where the store and temporary files are, and in shared memory."""
    local = "://" not in store
    places = {
        "disk": (Path(store) if local else Path.home(), LEAST_DISK),
        "temporary": (Path(tempfile.gettempdir()), 1e9),
    }
    shared = Path("/dev/shm")
    if shared.is_dir():
        places["shared memory"] = (shared, LEAST_SHARED_MEMORY)
    for what, (folder, least) in places.items():
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        free = shutil.disk_usage(there).free
        remedy = "" if free >= least else f"free some: {decimal(int(least))} at least"
        yield Finding(what, f"{decimal(free)} free on {there}", remedy)


def _ports() -> Finding:
    """Whether this machine's own interface can be listened on, as Ray's processes do."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), PATIENCE):
            pass
    except OSError as error:
        return Finding("ports", f"127.0.0.1: {error}", "allow programs to listen on the loopback interface")
    if problem := no_room_for_sockets():
        return Finding("ports", problem, "set RAY_TMPDIR to a shorter path")
    return Finding("ports", "the loopback interface can be listened on")


def clusters() -> Iterator[Finding]:
    """Those that would be used: that which runs connect to, and that which jobs are submitted to."""
    named = [(name, os.environ[name]) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if os.environ.get(name)]
    if not named:
        yield Finding("cluster", "RAY_ADDRESS is not set: a local one is started for each run")
    for name, address in named:
        yield _cluster(name, address)


def _cluster(name: str, address: str) -> Finding:
    """Whether it answers, and has the versions of Ray and Python that this environment has."""
    scheme, separator, rest = address.rpartition("://")
    host, _, port = rest.strip("/").rpartition(":")
    if not port.isdecimal():
        return Finding("cluster", f"{name}={address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        return Finding("cluster", f"{address} does not answer: {error}", f"start it, or unset {name}")
    try:
        if scheme in ("http", "https"):
            there = of_dashboard(address)
        elif separator:  # ray://, which asks for the same versions itself
            return Finding("cluster", f"{address} answers")
        else:
            there = of_cluster(address) if name == "RAY_ADDRESS" else of_dashboard(f"http://{address}")
    except NotAsked as error:
        said, remedy = error.args
        return Finding("cluster", f"{name}: {said}", remedy)
    here = Versions.here()
    if not there.agree(here):
        remedy = f"give both the same: here pip install ray=={there.ray}, or there what is here"
        if there.ray == here.ray:
            remedy = f"give both the same: an environment of Python {there.python} here, or of {here.python} there"
        return Finding("cluster", f"{address} has {there}, and this environment has {here}", remedy)
    return Finding("cluster", f"{address} answers: {there}")
