"""The user's own files: where a path that someone wrote leads, and reading only what can be read to its end.

Every path of an experiment becomes a :class:`LocalPath` once, when the file is read: relative ones are below the folder
in which the command was started, for a job submitted with ``--working-dir`` the copy that Ray unpacked. Processes of a
step work in other folders, and have the path that was found here. What identifies a step has it as it was written, so
that a checkout elsewhere is the same experiment.

A path may lead to anything: a pipe nobody writes to, a device without end, the root folder, a name that no file system
takes. Whoever is about to read one asks :func:`file_problem` or :func:`folder_problem` first.
"""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MOST_FILES = 20_000
"""Entries below a folder of a user's. The root folder has more, datasets and models have not."""

LONGEST_LINE = 64 << 20
"""Bytes of one row: a file without line ends is not read into memory whole."""

_KERNEL = ("/proc/", "/sys/")
"""Folders of files that the kernel makes up: some have no end, reading others waits for ever."""


@dataclass(frozen=True)
class LocalPath:
    """A file or folder on this machine."""

    written: str
    """As in the experiment."""
    path: Path
    """Absolute."""

    def __str__(self) -> str:
        return self.written


def locate(written: str) -> LocalPath:
    """Where a path leads. Raises ValueError for text that is none."""
    return LocalPath(written, absolute(written))


def absolute(written: str) -> Path:
    """The path from anywhere, ``~`` followed. Raises ValueError for text that is none."""
    if "\0" in written:
        raise ValueError(f"{written!r} is not a path: it has a NUL character in it")
    try:
        return user(written).absolute()
    except OSError as error:
        raise ValueError(f"{written!r} is below the working folder, which is gone ({error.strerror})") from None


def user(written: str) -> Path:
    """The path with ``~`` followed. Raises ValueError where there is no such user."""
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise ValueError(f"{written!r}: there is no user {written.partition('/')[0][1:]!r} with a home here") from None


def is_there(path: Path) -> bool:
    """Whether anything is; a name that no file system takes is not."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def file_problem(path: Path) -> str | None:
    """Why a path is not a file that can be read to its end, in words that go after it; None where it is one."""
    mode = _mode(path)
    if isinstance(mode, str):
        return mode if mode else "is not a file"
    if stat.S_ISDIR(mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(mode) or _of_the_kernel(path):
        return "is not a regular file: it is a device, a pipe, a socket or one of the kernel's"
    return None if os.access(path, os.R_OK) else "cannot be read: permission denied"


def folder_problem(path: Path) -> str | None:
    """Why a path is not a folder of a dataset's or a model's size, in words that go after it; None where it is one."""
    mode = _mode(path)
    if isinstance(mode, str):
        return mode if mode else "is not a folder"
    if not stat.S_ISDIR(mode) or _of_the_kernel(path):
        return "is not a folder"
    try:
        if len(list(islice(_entries(path), MOST_FILES + 1))) > MOST_FILES:
            return f"has more than {MOST_FILES:,} files: give the folder that has these alone"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def content(path: Path, most: int) -> bytes:
    """All of a small file. Raises ValueError, in words that go after its name, where it is none."""
    if problem := file_problem(path):
        raise ValueError(problem)
    try:
        with path.open("rb") as file:
            read = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(read) > most:
        raise ValueError(f"has more than {most:,} bytes")
    return read


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers, from 1, without the byte-order mark that spreadsheets write before the
    first. One at a time, so that a file of gigabytes takes little memory.

    Raises ValueError, in words that go after its name, where it cannot be read.
    """
    if problem := file_problem(path):
        raise ValueError(problem)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"has a line of more than {LONGEST_LINE >> 20} MiB, line {number}")
                yield number, line.removeprefix(BOM_UTF8) if number == 1 else line
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def regular_files(folder: Path) -> list[Path]:
    """The files below a folder, in order; nothing that is not a file, whatever links lead to."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not _of_the_kernel(path))


def _entries(folder: Path) -> Iterator[None]:
    """One for each thing below a folder. Links to folders are not followed."""
    open_folders = [folder]
    while open_folders:
        with os.scandir(open_folders.pop()) as entries:
            for entry in entries:
                yield
                if entry.is_dir(follow_symlinks=False):
                    open_folders.append(Path(entry.path))


def _mode(path: Path) -> int | str:
    """The mode; or why there is none, nothing being said of what is simply not there."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return ""
    except OSError as error:
        return f"is not a file or folder: {error.strerror}"


def _of_the_kernel(path: Path) -> bool:
    return f"{os.path.realpath(path)}/".startswith(_KERNEL)
