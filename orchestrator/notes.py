"""A step's notes: files that tell of it and on which no result rests. A damaged one is told of, and goes for none."""

from __future__ import annotations

from orchestrator.provenance import FILE, Provenance
from orchestrator.spending import expected, spent
from orchestrator.store.records import read_note
from orchestrator.store.step_folders import StepFolder


def read_provenance(folder: StepFolder) -> Provenance | None:
    """What the step's last attempt ran with; None where it was not kept."""
    return read_note(folder.path / FILE, Provenance, "what the step ran with is not told")


def look_at_notes(folder: StepFolder) -> None:
    """Reads every note, so that those which are damaged are told of."""
    folder.read_status()
    folder.read_progress()
    folder.read_held()
    folder.read_losses()
    read_provenance(folder)
    spent(folder)
    expected(folder)
