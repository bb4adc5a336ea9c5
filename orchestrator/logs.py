"""What the processes of a step said, from the store alone: one place to look, on any machine that sees it.

Every process of a step writes a file of its own, ``logs/<process>.txt`` (controller, rank-0, …), with a line about
where it runs whenever it is started. Shown here one after the other, each line with its process; when followed, as the
lines come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from orchestrator.store.storage import storage_of
from orchestrator.terminal import plain

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

POLL = 0.5
"""Seconds between looks at files that are followed."""

POLL_REMOTE = 2.0
"""The same, where every look is a request; processes send what they said every few seconds there."""

AT_ONCE = 1 << 20
"""Bytes taken from one file before the others have their turn."""


@dataclass
class _File:
    path: StoragePath
    offset: int = 0
    rest: bytes = field(default=b"", repr=False)

    def lines(self, size: int, all_of_it: bool) -> Iterator[str]:
        """What was added since the last call, up to `size`; an unfinished last line only with `all_of_it`."""
        while self.offset < size:
            part = storage_of(self.path).read_from(self.offset, AT_ONCE)
            if not part:
                break
            self.offset += len(part)
            *whole, self.rest = (self.rest + part).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
        if all_of_it and self.rest:
            yield self.rest.decode(errors="replace")
            self.rest = b""


def follow(folder: StoragePath, ended: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """(process, line) of every line in the ``logs`` folder `folder`, until `ended` says that no more will come.

    Lines of one process are in their order, and are shown without what would move a terminal's cursor.
    """
    seen: dict[str, _File] = {}
    while True:
        last = ended()
        there = {
            name: file.size
            for name, file in storage_of(folder).files().items()
            if name.endswith(".txt") and "/" not in name
        }
        for name in sorted(there, key=_in_order):
            file = seen.setdefault(name, _File(folder / name))
            for line in file.lines(there[name], all_of_it=last):
                yield PurePosixPath(name).stem, printable(line)
        if last:
            return
        time.sleep(POLL_REMOTE if storage_of(folder).remote else POLL)


def tail(path: StoragePath, lines: int) -> list[str]:
    """The last lines of a log; none where there is no such file."""
    content = storage_of(path).read_bytes()
    return [] if content is None else content.decode(errors="replace").splitlines()[-lines:]


def _in_order(name: str) -> tuple[str, int]:
    """rank-10 after rank-9."""
    stem = PurePosixPath(name).stem
    word, _, number = stem.rpartition("-")
    return (word, int(number)) if number.isdigit() else (stem, 0)


def printable(line: str) -> str:
    """A line without control characters and terminal sequences: what is logged may be a model's output.

    Of a line that was drawn over again and again (a progress bar), the last state is shown.
    """
    return plain(line.rstrip("\r").rpartition("\r")[2])
