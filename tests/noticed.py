"""What others could notice of what this process does: by Python's own audit events, which tell before it happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CHANGES = {
    *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime"),
    *("os.chmod", "os.chown", "os.setxattr"),
}
MESSAGES = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "os.kill", "os.killpg"}
LOCKS = {"fcntl.flock", "fcntl.lockf"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_listening: list[tuple[str, list[str]]] = []
"""Who wants to know: below which folder, and what was noticed. A hook cannot be taken back, so there is one."""


@contextmanager
def noticeable(folder: Path) -> Iterator[list[str]]:
    """Yields what is noticed meanwhile: changes to what is below `folder`, locks, and messages to other processes, but
    for those that this one started."""
    if _heard not in _hooked:
        sys.addaudithook(_heard)
        _hooked.append(_heard)
    noticed: list[str] = []
    _listening.append((str(folder), noticed))
    try:
        yield noticed
    finally:
        _listening.pop()


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if _listening and event in {"open", *CHANGES, *MESSAGES, *LOCKS}:
        folder, noticed = _listening[-1]
        if _is_noticed(event, arguments, folder):
            noticed.append(f"{event} {arguments}")


def _is_noticed(event: str, arguments: tuple[object, ...], folder: str) -> bool:
    if event in ("os.kill", "os.killpg"):
        return not _is_own(int(str(arguments[0])))
    if event in MESSAGES | LOCKS:
        return True
    paths = [os.path.abspath(os.fsdecode(each)) for each in arguments if isinstance(each, str | bytes | os.PathLike)]
    if not any(path.startswith(folder) for path in paths):
        return False
    if event == "open":
        return bool(int(str(arguments[2])) & WRITING)
    return event != "os.mkdir" or not os.path.exists(paths[0])


def _is_own(process: int) -> bool:
    try:
        return psutil.Process(process).ppid() == os.getpid()
    except psutil.NoSuchProcess:
        return True


_hooked: list[object] = []
