"""A package of somebody else, installed: modules and entry points in a folder that is on the path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent


def install(folder: Path, name: str, source: str, entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """Installs a package of one module into `folder`, which is to be put on PYTHONPATH.

    `entry_points` are by group, then by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath(f"{name}.py").write_text(dedent(source))
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    information.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in points.items())]
    information.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
