"""What of another step a config takes: ``${step}``, by the kind of output that it must be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

from orchestrator.job.local_files import LocalPath, absolute, is_there, locate
from orchestrator.job.outputs import Curves, Dataset, Model, Output

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(frozen=True)
class Reference:
    """``${step}`` in an experiment file: the output of another step, which must be of kind `accepts`."""

    step: str
    accepts: type[Output]

    def __str__(self) -> str:
        return f"${{{self.step}}}"


def parse_reference(value: object) -> str | None:
    """The step that a plain YAML value refers to, or None when it is not a reference."""
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return match.group(1).strip() if match else None


def is_path(text: str) -> bool:
    """Whether what may be a hub's name (``owner/name``) means a path: written as one, or there."""
    return text.startswith((".", "/", "~")) or text.count("/") != 1 or is_there(absolute(text))


def _dataset_source(value: object) -> Reference | LocalPath:
    source = _source(value, Dataset)
    return locate(source) if isinstance(source, str) else source


def _model_source(value: object) -> Reference | LocalPath | str:
    source = _source(value, Model)
    return locate(source) if isinstance(source, str) and is_path(source) else source


def _source(value: object, accepts: type[Output]) -> Reference | LocalPath | str:
    if isinstance(value, Reference | LocalPath):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}: must be text: ${{step}}, a path, or a name on Hugging Face's hub")
    step = parse_reference(value)
    return value if step is None else Reference(step, accepts)


# A field that takes the output of a step of that kind, a file or folder, or, of models, a hub's name.
DatasetSource = Annotated[Reference | LocalPath, PlainValidator(_dataset_source), PlainSerializer(str)]


ModelSource = Annotated[Reference | LocalPath | str, PlainValidator(_model_source), PlainSerializer(str)]


def _curves_source(value: object) -> Reference:
    if isinstance(value, Reference):
        return value
    step = parse_reference(value)
    if step is None:
        raise ValueError(f"{value!r}: must be ${{step}}, a sweep of this experiment")
    return Reference(step, Curves)


CurvesSource = Annotated[Reference, PlainValidator(_curves_source), PlainSerializer(str)]
"""A field that takes a sweep's results."""


def _file_source(value: object) -> LocalPath:
    if isinstance(value, LocalPath):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}: must be text: the path of a file")
    return locate(value)


FileSource = Annotated[LocalPath, PlainValidator(_file_source), PlainSerializer(str)]
"""A field that takes a file of the user's."""
