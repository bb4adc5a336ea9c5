"""The board of finished sweeps: what ``python -m orchestrator board STORE…`` writes, as a folder of static files.

Read in this order: ``entries`` (what a board keeps of one sweep, from the files of its result), ``pairing`` (how its
points do against the one that all are compared with), ``pages`` (its report, without what may not be passed on),
``page``. The folder is what the board remembers: a sweep that has not changed is not read again.

::

    <folder>/
        index.html      the board
        sweeps/         what it knows of each sweep, and of each of its items
        reports/        the pages that rows open
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from jobs.evaluate.board import entries, page, pages, pairing
from orchestrator.job.record import BoardRequest, ListedStep


def write(steps: Sequence[ListedStep], request: BoardRequest) -> str:
    """Writes the board, or brings it up to date; returns a line on what is in it.

    Nothing is decoded, graded or measured again, and no trace is read. Raises StepError for a step to compare with that
    is not there, and for a folder that is something else.
    """
    entries.claim(request.folder)
    known = entries.read_all(steps, request.folder)
    pages.copy_all(known, request.folder)
    compared = pairing.compare_all(known, request.against)
    for entry in compared.entries:
        entry.save()
    _forget_others(known, request)
    page.write(compared, request)
    points = sum(len(task["rows"]) for entry in known for task in entry.record["tasks"])
    return f"{len(known)} sweeps, {points:,} points"


def _forget_others(known: Sequence[entries.BoardEntry], request: BoardRequest) -> None:
    """Removes what is left of sweeps that are not on the board any more."""
    files = {file.name for entry in known for file in (entry.file, entry.scores_file)}
    for file in (request.folder / entries.SWEEPS).iterdir():
        if file.name not in files:
            file.unlink()
    folders = {entry.record["page"].split("/")[1] for entry in known if entry.record["page"]}
    for folder in (request.folder / pages.REPORTS).iterdir():
        if folder.name not in folders:
            shutil.rmtree(folder)
