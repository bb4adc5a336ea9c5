"""What ``ray job submit --working-dir`` would upload, and what makes it too large.

    python -m cluster.upload [FOLDER]

Ray refuses a working directory that packs to more than 512 MiB only after it has packed it, and does not say what is in
it. This looks at the same files, by Ray's own reading of ``.gitignore`` and ``.rayignore``, before anything is packed;
exit status 2 where they are too large. Sizes are before packing, which weights and archives gain nothing by.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MOST = 512 << 20
"""Bytes."""

NEVER = {".git", ".venv", "venv", "__pycache__"}
"""Folders that Ray leaves out by itself."""

SHOWN = 3


def files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file that would be uploaded, relative to `folder`, and its bytes."""
    from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

    excluded = get_excludes_from_ignore_files(folder, include_gitignore=True, logger=logging.getLogger(__name__))
    for here, folders, names in os.walk(folder):
        inside = Path(here)
        folders[:] = [
            name for name in folders if name not in NEVER and not any(each(inside / name) for each in excluded)
        ]
        for name in names:
            file = inside / name
            if file.is_file() and not any(each(file) for each in excluded):
                yield file.relative_to(folder), file.stat().st_size


def told(folder: Path, most: int = MOST) -> tuple[bool, str]:
    """Whether a working directory is small enough, and the line that says so, or what makes it large."""
    sizes: Counter[str] = Counter()
    for file, size in files(folder):
        sizes[f"{file.parts[0]}/" if len(file.parts) > 1 else str(file)] += size
    total = sum(sizes.values())
    if total <= most:
        return True, f"{folder}: {_mib(total)} of {_mib(most)}"
    largest = ", ".join(f"{name} {_mib(size)}" for name, size in sizes.most_common(SHOWN))
    remedy = "name what a job does not need in .rayignore, or submit without --working-dir on a cluster with a checkout"
    return (
        False,
        f"{folder}: {_mib(total)} is too large for Ray's upload, which takes {_mib(most)}: {largest}; {remedy}",
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def main(arguments: list[str]) -> int:
    folder = Path(*arguments[:1])
    if not folder.is_dir():
        print(f"{folder} is not a folder", file=sys.stderr)
        return 2
    small, line = told(folder.absolute())
    print(line, file=sys.stdout if small else sys.stderr)
    return 0 if small else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
