"""The reports that a board's rows open: copies of those in the store, without what may not be passed on.

A report has the questions of its samples, and traces that repeat them. Some benchmarks ask everyone who reads them not
to (GPQA, Humanity's Last Exam), so a copy of a report that has any task which is not known to be open, or a sweep that
is not on the board, has no samples: verdicts, curves and tables stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from jobs.evaluate.board.entries import BoardEntry, hashed
from orchestrator.store.storage import storage_of

REPORTS = "reports"

_SAMPLE = re.compile(rb'<script type="text/plain" id="s\d+-t\d+-\d+">[^<]*</script>\n?')
"""The tree of one sample, as the report's template writes it."""
_SELECTION = re.compile(rb'(<p class="about" id="selection">)[^<]*(</p>)')
_SAID = (
    b"This copy has no samples: not all of its questions may be passed on. Who has access to them writes a page with "
    b"them from the store."
)


def copy_all(entries: Sequence[BoardEntry], folder: Path) -> None:
    """Copies the pages that are new, and notes in each entry where its page is."""
    open_steps = {
        (entry.step.store, entry.record["step"])
        for entry in entries
        if all(task["open"] for task in entry.record["tasks"])
    }
    copied: set[str] = set()
    for entry in entries:
        page = entry.step.page
        if page is None:
            entry.record.update(page=None, page_version="")
            continue
        is_open = all((entry.step.store, step) in open_steps for step in entry.step.page_steps)
        name = f"{REPORTS}/{page.parent.name}-{hashed(entry.step.store)[:8]}/{page.name}"
        version = f"{entry.step.page_version} {'with' if is_open else 'without'} samples"
        target = folder / name
        if (entry.record["page"], entry.record["page_version"]) != (name, version) or not target.exists():
            if name not in copied:
                content = storage_of(page).read_bytes() or b""
                target.parent.mkdir(parents=True, exist_ok=True)
                storage_of(target).write_bytes(content if is_open else without_samples(content), durable=False)
            copied.add(name)
            entry.record.update(page=name, page_version=version)


def without_samples(page: bytes) -> bytes:
    """A report without its questions, traces and answers."""
    return _SELECTION.sub(rb"\1" + _SAID + rb"\2", _SAMPLE.sub(b"", page))
