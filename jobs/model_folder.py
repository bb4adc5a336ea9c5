"""A model on disk, in Hugging Face's layout: when a config's ``model`` means one, and what must be in it.

Light, for the configs of all kinds of step that take a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.step import Problem

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def local_folder(model: object) -> Path | None:
    """The folder that `model` names: written as a path, or there. None for a step's output and a name on the hub."""
    if not isinstance(model, str):
        return None
    path = Path(model).expanduser()
    written_as_path = model.startswith((".", "/", "~")) or model.count("/") != 1
    return path if written_as_path or path.exists() else None


def folder_problems(model: object) -> Iterator[Problem]:
    """What is wrong with the folder that a config's ``model`` names, as far as its file names tell."""
    folder = local_folder(model)
    if folder is None:
        return
    if not folder.is_dir():
        yield Problem(("model",), f"{model!r} is no folder: give a model's folder, its hub name or ${{step}}")
    elif not (folder / "config.json").is_file():
        yield Problem(("model",), f"{model!r} has no config.json: give a folder in Hugging Face's layout")
    elif not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        yield Problem(("model",), f"{model!r} has no tokenizer.json: save the model's tokenizer beside it")
