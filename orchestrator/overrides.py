"""``--set KEY=VALUE``: a value of an experiment file, given on the command line instead."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.complaints import shown
from orchestrator.terminal import one_line
from orchestrator.yaml_positions import DEEP, Document, YamlError, parse


def override(document: Document, setting: str) -> Iterator[str]:
    """Applies ``a.b.0.c=VALUE`` to the document; yields what is wrong with it."""
    dotted, equals, text = setting.partition("=")
    parts = dotted.split(".")
    if not equals or not all(parts):
        yield f"--set {setting}: write it as --set steps.STEP.FIELD=VALUE"
        return
    if len(parts) > DEEP:
        yield f"--set {one_line(setting, 100)}: goes {len(parts):,} levels deep, and no value is there"
        return
    try:
        value = parse(text).value if text.strip() else None
    except YamlError as error:
        yield f"--set {setting}: {error.complaints[0][1]}"
        return
    here = document.value
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(here, list) and part in map(str, range(len(here))):
            if last:
                here[int(part)] = value
            here = here[int(part)]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            here = here.setdefault(part, {})
        else:
            yield f"--set {setting}: {'.'.join(parts[:depth]) or 'the file'} is {shown(here)} and has no {part!r}"
            return
