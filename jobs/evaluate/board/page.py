"""The board as a page: one HTML file that opens from a disk or any server of static files, and sorts in the browser."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from jobs.evaluate.board.pairing import ComparedEntries
from jobs.evaluate.report.viewer import pack
from orchestrator.job.html import own_file, security_policy, template
from orchestrator.job.record import BoardRequest

HERE, REPORT = "jobs.evaluate.board", "jobs.evaluate.report"
"""Packages: the board has the style and the scripts of the report too."""

ROW = (
    *("accuracy", "accuracy_low", "accuracy_high", "thinking_tokens", "thinking_tokens_low", "thinking_tokens_high"),
    *("usd", "items"),
)
"""Fields of a row that go to the page as they are."""
AGAINST = ("verdict", "difference", "low", "high", "p_holm", "items")


def write(compared: ComparedEntries, request: BoardRequest) -> None:
    """Writes ``index.html``."""
    css = own_file(REPORT, "page.css") + own_file(HERE, "page.css")
    script = own_file(REPORT, "nodes.js") + own_file(HERE, "page.js")
    text = template(HERE, "page.html.j2").render(
        policy=security_policy(css, script),
        css=Markup(css),
        script=Markup(script),
        sweeps=len(compared.entries),
        data=pack(data(compared)),
        command=request.command,
        named=request.against is not None,
        references=[
            {
                "task": task,
                "policy": each.policy,
                "model": each.entry.record["model"],
                "step": each.entry.record["step"],
            }
            for task, each in sorted(compared.references.items())
        ],
    )
    temporary = request.folder / ".index.html"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(request.folder / "index.html")


def data(compared: ComparedEntries) -> dict[str, Any]:
    """What the page's script is handed: sweeps, and their points."""
    rows = []
    for number, entry in enumerate(compared.entries):
        for task in entry.record["tasks"]:
            reference = compared.references.get(task["task"])
            for row in task["rows"]:
                against = row["against"]
                is_reference = reference is not None and (
                    reference.entry is entry and reference.policy == row["policy"]
                )
                rows.append(
                    {
                        "sweep": number,
                        "task": task["task"],
                        "method": row["method"],
                        "policy": row["policy"],
                        **{name: _short(row[name]) for name in ROW},
                        "against": None if against is None else [_short(against[name]) for name in AGAINST],
                        "reference": is_reference,
                    }
                )
    kept = ("step", "store", "model", "finished", "commit", "machine", "packages", "usd", "decoded", "samples", "page")
    return {"sweeps": [{name: entry.record[name] for name in kept} for entry in compared.entries], "rows": rows}


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value
