"""Which Ray and Python the cluster has that the environment names, to be compared with this process's.

Asked of its dashboard (``http://…``, where jobs are submitted), or of the address that runs connect to (``host:port``).
Ray's own client of the latter waits for most of a minute where something else listens, and says so on stderr: so it
asks in a process of its own, which is ended before.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import platform
import urllib.error
import urllib.request
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE = 5.0
"""Seconds for a dashboard to answer."""
CLIENT_PATIENCE = 15.0
"""Seconds for a process to start, import Ray and be answered."""
LONGEST_ANSWER = 1 << 16
"""Bytes."""

ASKS = "{} asks for a token that it was not given"
TOKEN = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"
OTHER = "see that it is the address of Ray's head"


@dataclass(frozen=True)
class Versions:
    """Of Ray and Python; an old cluster does not say its Python."""

    ray: str
    python: str | None

    @classmethod
    def here(cls) -> Versions:
        """Those of this process."""
        import ray

        return cls(ray.__version__, platform.python_version())

    def agree(self, other: Versions) -> bool:
        """Whether Ray lets one connect to the other: it asks for the same of both, to the patch."""
        return self.ray == other.ray and (None in (self.python, other.python) or self.python == other.python)

    def __str__(self) -> str:
        return f"Ray {self.ray}" + (f" and Python {self.python}" if self.python else "")


class NotAsked(Exception):
    """A cluster that does not say its versions. Its arguments are why, and what to do."""


def of_dashboard(address: str) -> Versions:
    """Of the cluster whose dashboard that is. Raises NotAsked."""
    version = _answer(address, "api/version")
    if not isinstance(version, dict) or not isinstance(version.get("ray_version"), str):
        raise NotAsked(f"{address} is not a dashboard of Ray", "give the address that ray start says jobs go to")
    try:
        python = _answer(address, "api/v0/cluster_metadata")["data"]["pythonVersion"]
    except (NotAsked, TypeError, KeyError):  # an old one
        python = None
    return Versions(version["ray_version"], python)


def of_cluster(address: str) -> Versions:
    """Of the cluster at a ``host:port``. Raises NotAsked."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(address, there), daemon=True)
    process.start()
    there.close()
    try:
        answer = here.recv() if here.poll(CLIENT_PATIENCE) else f"no answer in {CLIENT_PATIENCE:g} s"
    except EOFError:
        answer = "no answer"
    finally:
        process.kill()
        process.join()
        here.close()
    if isinstance(answer, Versions):
        return answer
    if "AuthToken" in answer:
        raise NotAsked(ASKS.format(address), TOKEN)
    raise NotAsked(f"{address} listens, and no cluster answers: {answer}", OTHER)


def _ask(address: str, answer: Connection) -> None:
    """Run in a process of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import RayError

    try:
        known = GcsClient(address=address).internal_kv_get(b"CLUSTER_METADATA", namespace=b"cluster")
        said = json.loads(known)
        answer.send(Versions(said["ray_version"], said["python_version"]))
    except (RayError, RuntimeError, ValueError, TypeError, KeyError) as error:
        answer.send((str(error).splitlines() or [type(error).__name__])[0])


def _answer(address: str, path: str) -> Any:
    """What a dashboard says there, as JSON; the token is not sent on to where it redirects."""
    request = urllib.request.Request(f"{address.rstrip('/')}/{path}")
    if token := _token():
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
            return json.loads(reply.read(LONGEST_ANSWER))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise NotAsked(ASKS.format(address), TOKEN) from error
        raise NotAsked(f"{address}: {error.code} {error.reason}", OTHER) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = getattr(error, "reason", None) or error
        raise NotAsked(f"{address} does not answer as Ray does: {said}", OTHER) from error


def _token() -> str:
    """As Ray finds it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    if said := os.environ.get("RAY_AUTH_TOKEN"):
        return said
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
