"""A model on disk, in Hugging Face's layout: when a config's ``model`` means one, and what must be in it.

Light, for the configs of all kinds of step that take a model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from jobs.architecture import MOST_CONFIG, cached_snapshot
from orchestrator.job.config import Problem
from orchestrator.job.local_files import LocalPath, content, file_problem, folder_problem

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")


def local_folder(model: object) -> Path | None:
    """The folder that `model` names. None for a step's output and a name on the hub."""
    return model.path if isinstance(model, LocalPath) else None


def chat_template(model: object) -> str:
    """The chat template of a model in a folder, or in the hub's cache of this machine; empty where there is none."""
    folder = cached_snapshot(model) if isinstance(model, str) else local_folder(model)
    if folder is None:
        return ""
    try:
        return content(folder / "chat_template.jinja", MOST_CONFIG).decode()
    except (OSError, ValueError):
        pass
    try:
        written = json.loads(content(folder / "tokenizer_config.json", MOST_CONFIG)).get("chat_template")
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    return written if isinstance(written, str) else ""


def folder_problems(model: object) -> Iterator[Problem]:
    """What is wrong with the folder that a config's ``model`` names, as far as its file names and its config tell."""
    folder = local_folder(model)
    if folder is None:
        return
    named = repr(str(model))
    if problem := folder_problem(folder):
        yield Problem(("model",), f"{named} {problem}: give a model's folder, its hub name or ${{step}}")
    elif not (folder / "config.json").is_file():
        yield Problem(("model",), f"{named} has no config.json: give a folder in Hugging Face's layout")
    elif not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        yield Problem(("model",), f"{named} has no tokenizer.json: save the model's tokenizer beside it")
    elif problem := _config_problem(folder / "config.json"):
        yield Problem(("model",), f"{model!s}/config.json {problem}: give a folder in Hugging Face's layout")


def _config_problem(file: Path) -> str | None:
    if problem := file_problem(file):
        return problem
    try:
        return None if isinstance(json.loads(content(file, MOST_CONFIG)), dict) else "is not a JSON object"
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"cannot be read as JSON ({error})"
