"""What may be wrong with a store, and how a full disk is told, whoever met it."""

from __future__ import annotations

import errno

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StoreError(Exception):
    """The store cannot be used as asked: not reachable, not writable, full, or in use by a live run."""


class StoreLost(StoreError):
    """The store does not do what it did, or should: it is away, or full."""


def no_space(error: BaseException | None) -> str | None:
    """What to say where an error means that a disk is full, whoever met it; None for any other."""
    if not isinstance(error, OSError) or error.errno not in NO_SPACE:
        return None
    where = f" for {error.filename}" if error.filename else ""
    return (
        f"no space left{where} ({error.strerror}): free some on this machine and run the same command again; what is "
        "there already is kept"
    )
