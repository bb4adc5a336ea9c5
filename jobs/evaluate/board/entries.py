"""What a board keeps of one sweep, from the files of its result alone: curves, costs, and who got which item right.

The experiment's file is not needed, nor is the config read as one: sweeps of earlier versions stay on the board. An
entry is two files: a record of its points, and for comparisons the scores by item, which are read when what they are
compared with changes. Items are known by a hash of their ids, and their correct answers by a hash as well: a board that
is published says nothing of questions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.evaluate.tasks.benchmarks import BENCHMARKS
from orchestrator.job.errors import StepError
from orchestrator.job.record import ListedStep
from orchestrator.job.references import parse_reference
from orchestrator.store.errors import StoreError
from orchestrator.store.records import DamagedRecord, read_passing, tell, write_json_atomically
from orchestrator.store.storage import storage_of

if TYPE_CHECKING:
    from jobs.evaluate.stats.comparisons import Scores

SWEEPS = "sweeps"
MARK = "board.json"
"""In the board's folder: that it is one."""

VERSION = 1
"""Of an entry: others are read anew."""

AT_ONCE = 8
"""Sweeps that are read side by side, which helps where the store is a bucket."""

NATURAL_END = "auto"


@dataclass(frozen=True)
class BoardEntry:
    """A sweep on the board."""

    folder: Path
    """The board's folder of entries."""
    step: ListedStep
    record: dict[str, Any]

    @property
    def key(self) -> str:
        return self.step.key

    @property
    def file(self) -> Path:
        return self.folder / f"{self.key}.json"

    @property
    def scores_file(self) -> Path:
        """Scores by item: arrays."""
        return self.folder / f"{self.key}.npz"

    def save(self) -> None:
        write_json_atomically(self.file, self.record, durable=False)

    @cached_property
    def scores(self) -> Mapping[str, ItemScores]:
        """By task."""
        return dict(_read_scores(self.scores_file))


@dataclass(frozen=True)
class ItemScores:
    """Who got which item of a task right."""

    items: Sequence[str]
    """Hashes of their ids, in order."""
    golds: Sequence[str]
    """Hashes of their correct answers; empty where they are not known."""
    scores: Scores


def claim(folder: Path) -> None:
    """Makes the board's folder. Raises StepError where it has other things in it."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).exists())):
        raise StepError(
            f"--to: {folder} is there and is no board: give a new folder, or one that a board was written to"
        )
    for part in (SWEEPS, "reports"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_json_atomically(folder / MARK, {"board": VERSION}, durable=False)


def read_all(steps: Sequence[ListedStep], folder: Path) -> list[BoardEntry]:
    """What is known of the sweeps; those that are damaged are told of, and left out."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [entry for entry in pool.map(lambda step: _read(step, folder / SWEEPS), steps) if entry is not None]


def _read(step: ListedStep, folder: Path) -> BoardEntry | None:
    kept = read_passing(folder / f"{step.key}.json", dict[str, Any])
    known = kept is not None and (kept.get("format"), kept.get("version")) == (VERSION, step.version)
    if kept is not None and known and (folder / f"{step.key}.npz").exists():
        return BoardEntry(folder, step, kept)
    try:
        step.folder.done()
        entry = BoardEntry(folder, step, _record(step))
        _write_scores(step, entry.scores_file)
    except (DamagedRecord, StoreError, KeyError, ValueError) as error:
        tell(f"{step.folder.path.name}: damaged: {error}; it is not on the board, and run makes it again")
        return None
    return entry


def _json(step: ListedStep, name: str) -> Any:
    """A file of the result; None where there is none."""
    content = storage_of(step.folder.output / name).read_bytes()
    return None if content is None else json.loads(content)


def _record(step: ListedStep) -> dict[str, Any]:
    config = read_passing(step.folder.path / "config.json", dict[str, Any]) or {}
    decode = _json(step, "decode.json") or {}
    costs = _json(step, "costs.json") or {}
    usd = {(row["task"], row["policy"]): row.get("cost_usd_alone") for row in costs.get("points", ())}
    spent, said = step.spent(), step.provenance() or {}
    tasks: dict[str, list[dict[str, Any]]] = {}
    for curve in _json(step, "curves.json"):
        rows = tasks.setdefault(curve["task"], [])
        there = {row["policy"] for row in rows}
        for point in curve["points"]:
            row = _row(curve["curve"], point, usd)
            if row is not None and row["policy"] not in there:
                rows.append(row)
    settings = {task["name"]: task for task in config.get("tasks", ())}
    return {
        "format": VERSION,
        "version": step.version,
        "step": step.folder.path.name,
        "store": step.store,
        "model": model_name(config),
        "finished": step.finished,
        "commit": str(said.get("commit") or ""),
        "packages": dict(said.get("packages") or {}),
        "machine": str(said.get("machine") or ""),
        "usd": costs.get("usd", None if spent is None else spent.usd),
        "decoded": int(decode.get("thinking_tokens_decoded", 0) + decode.get("answer_tokens_decoded", 0)),
        "samples": config.get("samples", 1),
        "page": None,
        "page_version": "",
        "tasks": [
            {"task": task, "open": is_open(settings.get(task)), "reference": None, "rows": rows}
            for task, rows in tasks.items()
        ],
    }


def _row(curve: str, point: Mapping[str, Any], usd: Mapping[tuple[str, str], float | None]) -> dict[str, Any] | None:
    """A point as the board has it; None of pass@k, which is no accuracy that a user would see."""
    score, k = point.get("score", "accuracy"), point.get("k", 1)
    if score.startswith("pass") or (score != "accuracy" and k == 1):
        return None
    name = point["policy"] if score == "accuracy" else f"{point['policy']} {score.replace('@k', f'@{k}')}"
    natural = score == "accuracy" and name == NATURAL_END
    samples = point["samples"]
    dollars = usd.get((point["task"], name))
    return {
        "policy": name,
        "method": "natural end" if natural else curve,
        "items": point["items"],
        **{key: point.get(key) for key in ("accuracy", "accuracy_low", "accuracy_high")},
        **{key: point.get(key) for key in ("accuracy_least", "accuracy_most") if point.get(key) is not None},
        **{key: point.get(key) for key in ("thinking_tokens", "thinking_tokens_low", "thinking_tokens_high")},
        "answer_tokens": point.get("answer_tokens"),
        "usd": None if dollars is None or not samples else dollars / samples,
        "against": None,
    }


def model_name(config: Mapping[str, Any]) -> str:
    """As reports call it: the step that made it, its folder's last name, or its name on a hub or a server."""
    model = config.get("model")
    if model is None:
        return str(config.get("served_model") or "?")
    step = parse_reference(model)
    if step is not None:
        return step
    return Path(model).name if model.startswith((".", "/", "~")) else str(model)


def is_open(task: Mapping[str, Any] | None) -> bool:
    """Whether a task's questions may be passed on, as far as is known: they are generated, one's own, or of a published
    benchmark that asks for no agreement. Of other datasets, and of what other steps collected, it is not known."""
    if task is None or ((known := BENCHMARKS.get(task["name"])) is not None and known.gated):
        return False
    path, dataset = task.get("path"), task.get("dataset")
    if dataset is not None:
        return any(each.dataset == dataset and not each.gated for each in BENCHMARKS.values())
    return path is None or parse_reference(path) is None


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_scores(step: ListedStep, path: Path) -> None:
    import numpy as np

    from jobs.evaluate.stats.comparisons import scores
    from jobs.evaluate.stats.outcomes import read

    arrays: dict[str, Any] = {}
    with storage_of(step.folder.output / "samples.parquet").open() as samples:
        outcomes = read(samples)
    for number, task in enumerate(outcomes):
        of_task = scores(task, NATURAL_END)
        shares = of_task.shares
        arrays |= {
            f"{number}-task": np.array(task.task),
            f"{number}-points": np.array(of_task.points),
            f"{number}-items": np.array([hashed(item) for item in task.items]),
            f"{number}-golds": np.array([hashed(str(task.golds[item])) for item in task.items if task.golds]),
        }
        kinds = (
            {"graded": shares.graded}
            if shares.are_certain
            else {"graded": shares.graded, "least": shares.least, "most": shares.most}
        )
        for kind, sums in kinds.items():
            arrays |= {f"{number}-{kind}-right": sums.right, f"{number}-{kind}-asked": sums.asked}
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    temporary.replace(path)


def _read_scores(path: Path) -> Iterator[tuple[str, ItemScores]]:
    import numpy as np

    from jobs.evaluate.stats.comparisons import Scores
    from jobs.evaluate.stats.intervals import Shares, Sums

    with np.load(path) as arrays:
        for name in arrays.files:
            if not (match := re.fullmatch(r"(\d+)-task", name)):
                continue
            number = match[1]

            def sums(kind: str, number: str = number) -> Sums:
                return Sums(arrays[f"{number}-{kind}-right"], arrays[f"{number}-{kind}-asked"])

            graded = sums("graded")
            certain = f"{number}-least-right" not in arrays.files
            shares = Shares(graded, graded, graded) if certain else Shares(graded, sums("least"), sums("most"))
            yield (
                str(arrays[name]),
                ItemScores(
                    arrays[f"{number}-items"].tolist(),
                    arrays[f"{number}-golds"].tolist(),
                    Scores(tuple(arrays[f"{number}-points"].tolist()), shares),
                ),
            )
