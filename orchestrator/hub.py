"""Whether what an experiment takes from Hugging Face's hub is there: asked before anything starts that costs.

A name with a letter too many would otherwise be found when its step starts, after those before it were paid for. One
request for each name, all at once, and no longer than :data:`PATIENCE` seconds: where the hub does not answer, cannot
be reached, or is not to be (``HF_HUB_OFFLINE``), nothing is said, because machines of a cluster may reach it.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from orchestrator.complaints import Complaint
from orchestrator.experiment import Experiment, Step
from orchestrator.job.config import HubName

PATIENCE = 1.5
"""Seconds for all answers together."""

MOST = 32
"""Names that are asked for; an experiment has a handful."""

_MISSING = (401, 404)
"""The hub says 401 of what is not there, as of what is private, to those without a token."""


def absent(experiment: Experiment, steps: Sequence[Step]) -> Iterator[Complaint]:
    """What `steps` take from the hub, and it has not."""
    named = {
        replace(each, field=("steps", step.name, *each.field)): None
        for step in steps
        for each in step.config.hub_names()
    }
    for name in missing(named):
        field = ".".join(map(str, name.field))
        pinned = "" if name.revision is None else f" at {name.revision}"
        yield Complaint(
            experiment.document.line(name.field),
            f"{field}: {name.name!r}{pinned} is not a {name.kind} on Hugging Face's hub, or a private one: see its "
            "name, log in with `hf auth login` or HF_TOKEN, or give a folder (./name)",
        )


def missing(names: Iterable[HubName]) -> list[HubName]:
    """Those that the hub says it has not, or not for this user. What this machine has in its cache is not asked for."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        return []
    cache = Path(constants.HF_HUB_CACHE)
    asked: dict[str, list[HubName]] = {}
    for name in names:
        if not (cache / f"{name.kind}s--{name.name.replace('/', '--')}").is_dir():
            asked.setdefault(_address(constants.ENDPOINT, name), []).append(name)
    token = get_token() if asked else None
    gone: set[str] = set()

    def ask(address: str) -> None:
        if _is_missing(address, token):
            gone.add(address)

    threads = [threading.Thread(target=ask, args=(address,), daemon=True) for address in list(asked)[:MOST]]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [name for address in set(gone) for name in asked[address]]


def _address(endpoint: str, name: HubName) -> str:
    revision = "" if name.revision is None else f"/revision/{quote(name.revision, safe='')}"
    return f"{endpoint}/api/{name.kind}s/{quote(name.name)}{revision}"


def _is_missing(address: str, token: str | None) -> bool:
    request = urllib.request.Request(address, method="HEAD")
    if token is not None:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        urllib.request.urlopen(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError as error:
        return error.code in _MISSING
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return False
