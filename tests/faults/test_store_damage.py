"""500 mutations of a finished store, one at a time: no command answers with a traceback, or with a wrong number.

Every file that a finished sweep left is torn, emptied, flipped, deleted, replaced by a folder or by other JSON. After
each, what `plan`, `status`, `report`, `verify` and `compare` say is held against what they said of the sound store.
They may say less (a line that names the damage, a dash, a step that would run again), never something else.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient

from orchestrator.__main__ import main
from orchestrator.experiment import load
from orchestrator.job.usage import Spending
from orchestrator.notes import look_at_notes
from orchestrator.plan import plan
from orchestrator.provenance import provenance
from orchestrator.store import records
from orchestrator.store.records import write_note
from orchestrator.store.step_folders import PAGE, Store
from tests.evaluate.report.sweep import ANSWERS, THOUGHTS, fields
from tests.evaluate.spoken import finish

MUTATIONS = 500
OTHER_JSON = (
    "null",
    "[]",
    "{}",
    "3",
    '"text"',
    "[[1]]",
    '{"a": 1}',
    "NaN",
    "[" * 100_000,
    '{"record": null, "checksum": 1}',
)
VERBS = ("plan", "status", "report", "verify")


def flipped(content: bytes, random: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def other_number(content: bytes, random: random.Random) -> bytes:
    """One digit is another: what no parser notices."""
    digits = [match.start() for match in re.finditer(rb"[0-9]", content)]
    if not digits:
        return flipped(content, random)
    changed = bytearray(content)
    at = random.choice(digits)
    changed[at] = ord(random.choice(sorted(set("0123456789") - {chr(changed[at])})))
    return bytes(changed)


CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "torn": lambda content, random: content[: random.randrange(len(content) + 1)],
    "emptied": lambda content, random: b"",
    "flipped": flipped,
    "another number": other_number,
    "other JSON": lambda content, random: random.choice(OTHER_JSON).encode(),
    "no UTF-8": lambda content, random: b"\xff\xfe" + content,
    "longer": lambda content, random: content + b"}",
}
KINDS = (*CHANGES, "deleted", "a folder")


def damage(file: Path, kind: str, random: random.Random) -> None:
    content = file.read_bytes()
    file.unlink()
    if kind == "a folder":
        file.mkdir()
    elif kind != "deleted":
        file.write_bytes(CHANGES[kind](content, random))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a finished sweep, and all the notes that a run leaves."""
    folder = tmp_path_factory.mktemp("sound")
    content = {
        "name": "sums",
        "store": str(folder / "runs"),
        "tracking": f"sqlite:///{folder}/mlflow.db",
        "steps": {"sweep": {"job": "evaluate", **fields(folder)}},
    }
    (folder / "sums.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    MlflowClient(content["tracking"]).create_experiment("sums", artifact_location=(folder / "artifacts").as_uri())
    experiment, store = load(folder / "sums.yaml"), Store(folder / "runs")
    step = plan(experiment, store)[0]
    step.folder.create(step.identity)
    context = step.context(experiment, store)
    finish(context, fields(folder), THOUGHTS, ANSWERS)
    context.progress(6, 6, "units")
    context.lost({"preempted": 1}, "its machine is gone")
    for name in ("spent.json", "expected.json"):
        write_note(step.folder.path / name, vars(Spending(61.0, 122.0, 0.75, "core")))
    write_note(step.folder.path / "provenance.json", provenance())
    step.folder.write_status(state="done", started=10.0, finished=71.0, attempt=0, restarts={"preempted": 1})
    step.folder.mark_done()
    look_at_notes(step.folder)
    assert answers(folder)["report"][0] == 0
    return folder


def answers(folder: Path) -> dict[str, tuple[int, str, str]]:
    """What each command says: its exit status, and its standard output and error."""
    records.tell.cache_clear()
    said = {}
    sweep = next((folder / "runs").glob("sweep-*"), folder / "runs" / "sweep-0123456789abcdef")
    commands = {verb: [verb, str(folder / "sums.yaml")] for verb in VERBS} | {
        "compare": ["compare", str(sweep), str(sweep)]
    }
    for verb, command in commands.items():
        result = CliRunner(env={"COLUMNS": "300"}).invoke(main, command)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(f"{verb} ended in {result.exception!r}") from result.exception
        assert "Traceback" not in result.output, result.output
        said[verb] = result.exit_code, result.stdout, result.stderr
    return said


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", text))


@pytest.mark.timeout(7200)
def test_no_damage_ends_in_a_traceback_or_in_another_number(sound: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(sound) for path in (sound / "runs").rglob("*") if path.is_file())
    sound_answers = answers(sound)
    table = sound_answers["report"][1].partition("sweep: plots")[0]
    randomly = random.Random(0)
    kept = tmp_path / "kept"
    shutil.copytree(sound / "runs", kept)
    reacted: Counter[str] = Counter()
    randomly.shuffle(names)
    turns = ((name, KINDS[(turn + at) % len(KINDS)]) for turn in count() for at, name in enumerate(names))
    for number, (name, kind) in enumerate(islice(turns, MUTATIONS)):
        shutil.rmtree(sound / "runs")
        shutil.copytree(kept, sound / "runs")
        before = (sound / name).read_bytes()
        damage(sound / name, kind, randomly)
        if (sound / name).is_file() and (sound / name).read_bytes() == before:
            continue
        where = f"mutation {number}: {name} {kind}"
        try:
            found = answers(sound)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        status, shown, told = found["report"]
        if status == 0:
            assert table in shown, f"{where}: the table is another"
        else:
            assert "|" not in shown, f"{where}: a table of what is damaged"
            assert "damaged" in shown + told or "not done" in shown, f"{where}: {shown}{told}"
        if found["compare"][0] == 0:
            assert found["compare"][1] == sound_answers["compare"][1], where
        if found["status"] != sound_answers["status"]:
            said = found["status"][1]
            costs = set(re.findall(r"\$[0-9.]+", said)) - set(re.findall(r"\$[0-9.]+", sound_answers["status"][1]))
            assert costs <= {"$0.00", "$0"} or "would run" in found["plan"][1], f"{where}: {said}"
            reacted["status"] += 1
        if name.parts[2:3] in (("output",), ("tracked",)) and name.name != PAGE:
            assert found["verify"][0] == 1, f"{where}: {found['verify']}"
            assert "damaged" in found["verify"][1]
            reacted["verify"] += 1
    print(f"{MUTATIONS} mutations of {len(names)} files: {dict(reacted)}")
    assert reacted["verify"]
    assert reacted["status"]


def test_a_digit_of_what_was_spent_is_noticed(sound: Path) -> None:
    spent = next(sound.glob("runs/sweep-*/spent.json"))
    content = spent.read_text()
    try:
        spent.write_text(content.replace("0.75", "0.15"))
        assert "spent.json is damaged" in answers(sound)["status"][2]
    finally:
        spent.write_text(content)
    assert json.loads(content)["usd"] == 0.75
