"""The steps that one run works on: leased together before it starts, and kept alive while it goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.store.errors import StoreError
from orchestrator.store.leases import HEARTBEAT, Lease
from orchestrator.store.step_folders import StepFolder


@contextmanager
def leased(folders: list[StepFolder], lease: Lease) -> Iterator[None]:
    """Holds the lease on several steps: all of them, or none and a StoreError."""
    taken: list[StepFolder] = []
    try:
        dead: set[str] = set()
        for folder in folders:
            _see_that_it_is_dead(folder, lease, dead)
            folder.acquire(lease)
            taken.append(folder)
        yield
    finally:
        for folder in taken:
            folder.release(lease.run)


def _see_that_it_is_dead(folder: StepFolder, lease: Lease, dead: set[str]) -> None:
    """Looks at an abandoned lease for a while, unless its run is among the `dead`.

    Raises StoreError when it is renewed: its machine's clock, or this one's, is wrong.
    """
    holder = folder.leases.latest()
    if holder is None or holder.live or holder.run in dead | {lease.run}:
        return
    if holder.beats(folder.leases):
        raise StoreError(
            f"{folder.path.name} is being worked on by {holder}, whose clock and this machine's are apart; wait for "
            "it, or stop it"
        )
    dead.add(holder.run)


@contextmanager
def heartbeat(folders: list[StepFolder], lease: Lease) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Keeps the leases alive.

    The first event is set when one is lost: this process slept so long that it seemed dead. The second is set when the
    run is asked to stop through the store.
    """
    stop, taken_over, cancelled = threading.Event(), threading.Event(), threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT):
            with suppress(StoreError):  # if it is away for good, the run ends where it needs the store
                if not all(folder.renew(lease) for folder in folders):
                    taken_over.set()
                if any(folder.cancel_requested(lease.run) for folder in folders):
                    cancelled.set()

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield taken_over, cancelled
    finally:
        stop.set()
        thread.join()
