"""What the processes of a step said, from the store alone: one place to look, on any machine that sees it.

Every process of a step writes a file of its own, ``logs/<process>.txt`` (controller, rank-0, …), with a line about
where it runs whenever it is started. Shown here one after the other, each line with its process; when followed, as the
lines come.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

POLL = 0.5
"""Seconds between looks at files that are followed."""

AT_ONCE = 1 << 20
"""Bytes taken from one file before the others have their turn."""


@dataclass
class _File:
    path: Path
    offset: int = 0
    rest: bytes = field(default=b"", repr=False)

    def lines(self, all_of_it: bool) -> Iterator[str]:
        """What was added since the last call; an unfinished last line only with `all_of_it`."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while part := file.read(AT_ONCE):
                self.offset += len(part)
                *whole, self.rest = (self.rest + part).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
        if all_of_it and self.rest:
            yield self.rest.decode(errors="replace")
            self.rest = b""


def follow(folder: Path, ended: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """(process, line) of every line in the ``logs`` folder `folder`, until `ended` says that no more will come.

    Lines of one process are in their order, and are shown without what would move a terminal's cursor.
    """
    files: dict[Path, _File] = {}
    while True:
        last = ended()
        for path in sorted(folder.glob("*.txt"), key=_in_order):
            file = files.setdefault(path, _File(path))
            for line in file.lines(all_of_it=last):
                yield path.stem, printable(line)
        if last:
            return
        time.sleep(POLL)


def _in_order(path: Path) -> tuple[str, int]:
    """rank-10 after rank-9."""
    word, _, number = path.stem.rpartition("-")
    return (word, int(number)) if number.isdigit() else (path.stem, 0)


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(line: str) -> str:
    """A line without control characters and terminal sequences: what is logged may be a model's output.

    Of a line that was drawn over again and again (a progress bar), the last state is shown.
    """
    return _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])
