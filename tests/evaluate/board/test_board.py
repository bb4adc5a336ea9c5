"""What the board says of sweeps: every one, compared as `compare` does, kept from one writing to the next."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.evaluate import report
from jobs.evaluate.board import entries
from jobs.evaluate.compare import compare
from jobs.evaluate.stats import outcomes
from jobs.evaluate.tasks.benchmarks import BENCHMARKS
from orchestrator.__main__ import main
from orchestrator.job.record import Compared
from orchestrator.store.records import write_json_atomically
from orchestrator.store.step_folders import StepFolder
from tests.evaluate.board.stores import SHAPE, add, report_on
from tests.evaluate.report import sweep as reported
from tests.evaluate.simulated import simulate


def board(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["board", *map(str, arguments)], catch_exceptions=False)


def shown(folder: Path) -> dict[str, Any]:
    """The data of its page."""
    text = (folder / "index.html").read_text()
    found = re.search(r'<script type="text/plain" id="data">([^<]*)</script>', text)
    assert found is not None
    data: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return data


def row(data: dict[str, Any], step: str, policy: str) -> dict[str, Any]:
    (one,) = (
        each
        for each in data["rows"]
        if data["sweeps"][each["sweep"]]["step"].rpartition("-")[0] == step and each["policy"] == policy
    )
    return one


def test_every_finished_sweep_of_several_stores_is_on_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    add(first, "base", finished=1_790_000_000.0)
    add(first, "unfinished").unmark_done()
    add(second, "tuned", model="./models/other")
    written = board(first, second, "--to", tmp_path / "board")
    assert written.output == f"2 sweeps, 16 points: {tmp_path / 'board' / 'index.html'}\n"
    data = shown(tmp_path / "board")
    assert [(each["model"], each["store"]) for each in data["sweeps"]] == [
        ("org/tiny", str(first)),
        ("other", str(second)),
    ]
    sweep = data["sweeps"][0]
    assert (sweep["finished"], sweep["commit"], sweep["usd"], sweep["decoded"]) == (
        1_790_000_000.0,
        "0123abc",
        0.5,
        400,
    )
    assert sweep["packages"] == {"torch": "2.13.0"}
    curves = json.loads((first / sweep["step"] / "output" / "curves.json").read_text())
    points = {point["policy"]: point for curve in curves for point in curve["points"]}
    for each in (each for each in data["rows"] if each["sweep"] == 0):
        point = points[each["policy"]]
        for name in ("accuracy", "accuracy_low", "accuracy_high", "thinking_tokens", "items"):
            assert each[name] == pytest.approx(point[name], rel=1e-4)
    # 4 answer tokens and 13 of thinking, at what the sweep took for a token.
    assert row(data, "base", "auto")["usd"] == pytest.approx(17 * 0.00125)
    assert {each["method"] for each in data["rows"]} == {"budget", "natural end", "Wait"}


def test_points_are_compared_as_compare_does_and_corrected_for_their_number(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    better = {policy: (min(1.0, accuracy + 0.25), tokens) for policy, (accuracy, tokens) in SHAPE.items()}
    first, second = add(store, "base"), add(store, "tuned", simulate(better, items=40))
    board(store, "--to", tmp_path / "board", "--against", "base")
    data = shown(tmp_path / "board")
    assert row(data, "base", "auto")["reference"]
    said = compare(Compared(first.path.name, first.output), Compared(second.path.name, second.output), ("auto", "auto"))
    verdict, difference, low, high, p_holm, items = row(data, "tuned", "auto")["against"]
    assert f"{100 * difference:+.1f} ({100 * low:+.1f} … {100 * high:+.1f})" in said
    assert (verdict, items) == ("better", 40)
    alone = float(re.findall(r"\| ([<0-9.]+) ", said)[1].replace("<", ""))
    assert p_holm >= alone, "one of fifteen comparisons is less sure than one by itself"
    assert row(data, "base", "4")["against"][0] == "worse"
    assert row(data, "base", "32")["against"][0] == "within noise"
    compared = [each for each in data["rows"] if each["against"]]
    assert len(compared) == 15
    smallest = min(compared, key=lambda each: float(each["against"][4]))["against"][4]
    assert smallest < 0.05


def test_without_a_step_to_compare_with_the_most_accurate_of_each_task_is_taken(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    add(store, "base")
    lucky = simulate(dict.fromkeys(SHAPE, (1.0, 10.0)), items=4)
    add(store, "few", lucky)
    board(store, "--to", tmp_path / "board")
    data = shown(tmp_path / "board")
    assert [each["policy"] for each in data["rows"] if each["reference"]] == ['1x"Wait"']
    assert not row(data, "few", "auto")["reference"], "the best of four items is best by luck"
    assert row(data, "few", "auto")["against"][-1] == 4, "compared on the items that both were asked"


def test_other_questions_of_the_same_name_are_not_compared(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    add(store, "base")
    frame = simulate(SHAPE, items=40)
    add(store, "regolded", frame.assign(gold=frame["gold"].where(frame["item"] != "word7", "4")))
    add(store, "elsewhere", frame.assign(item="x" + frame["item"]))
    board(store, "--to", tmp_path / "board", "--against", "base")
    data = shown(tmp_path / "board")
    assert row(data, "base", "4")["against"] is not None
    for step in ("regolded", "elsewhere"):
        assert row(data, step, "4")["against"] is None


def test_samples_that_were_not_graded_speak_against_a_difference(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    add(store, "base")
    better = {policy: (min(1.0, accuracy + 0.3), tokens) for policy, (accuracy, tokens) in SHAPE.items()}
    frame = simulate(better, items=40)
    some = frame["item"].isin({f"word{number}" for number in range(14)})
    add(store, "unsure", frame.assign(verdict=frame["verdict"].where(~some, "error")))
    board(store, "--to", tmp_path / "board", "--against", "base")
    assert row(shown(tmp_path / "board"), "unsure", "auto")["against"][0] == "within noise"


def test_majority_votes_are_points_and_pass_at_k_is_none(tmp_path: Path) -> None:
    store = tmp_path / "runs"
    frame = simulate(SHAPE, items=40, samples=4)
    add(store, "voted", frame, samples=4, temperature=1.0)
    board(store, "--to", tmp_path / "board")
    data = shown(tmp_path / "board")
    names = {each["policy"] for each in data["rows"]}
    assert {"auto majority@2", "auto majority@4"} < names
    assert not any("pass" in name for name in names)
    vote, one = row(data, "voted", "auto majority@4"), row(data, "voted", "auto")
    assert vote["against"] is not None
    assert vote["usd"] == pytest.approx(4 * one["usd"], rel=1e-3)


def test_a_sweep_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, folder = tmp_path / "runs", tmp_path / "board"
    add(store, "base")
    board(store, "--to", folder)
    before = (folder / "index.html").read_bytes()

    def no_reading(*_: object) -> None:
        pytest.fail("samples are read")

    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "read", no_reading)
        board(store, "--to", folder)
        assert (folder / "index.html").read_bytes() == before
    again = add(store, "base", simulate(dict.fromkeys(SHAPE, (0.5, 20.0)), items=40))
    board(store, "--to", folder)
    assert row(shown(folder), "base", "auto")["accuracy"] == 0.5
    again.unmark_done()
    add(store, "other")
    board(store, "--to", folder)
    assert [each["step"].partition("-")[0] for each in shown(folder)["sweeps"]] == ["other"]
    assert len(list((folder / "sweeps").iterdir())) == 2, "nothing is left of what is not on the board"


def test_a_damaged_sweep_is_told_of_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs"
    add(store, "base")
    damaged = add(store, "cut")
    (damaged.output / "samples.parquet").write_bytes(b"PAR1")
    assert "1 sweeps" in board(store, "--to", tmp_path / "board").output


@pytest.mark.seconds
def test_a_published_board_has_no_questions_of_a_gated_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "BENCHMARKS", {"sums": BENCHMARKS["gpqa_diamond"]})
    store, folder = tmp_path / "runs", tmp_path / "board"
    store.mkdir()
    step = reported.hostile(store)
    place = StepFolder(step.context.folder)
    place.create({"job": "evaluate"})
    write_json_atomically(place.path / "config.json", step.config.model_dump(mode="json"))
    place.mark_done()
    page = report_on(store, "experiment-1", place)
    report.write([step], reported.request(page.parent))
    secrets = ["What is 1+1", "What is 2+2", "What is 1+2", "quite a while longer"]
    assert all(secret in "".join(texts(page)) for secret in secrets), "the report in the store has them"
    board(store, "--to", folder)
    for file in [each for each in folder.rglob("*") if each.is_file()]:
        for text in texts(file):
            assert not any(secret in text for secret in secrets), file
    (sweep,) = shown(folder)["sweeps"]
    copy = (folder / sweep["page"]).read_text()
    assert "This copy has no samples" in copy
    assert "<h3>Every policy</h3>" in copy, "curves and tables are there"


def texts(file: Path) -> list[str]:
    """All that a file says: as it is, and what is packed in it."""
    content = file.read_bytes()
    packed = re.findall(rb">([A-Za-z0-9+/=]{40,})<", content)
    return [content.decode(errors="replace"), *(gzip.decompress(base64.b64decode(each)).decode() for each in packed)]


def test_a_row_opens_its_newest_report_with_samples_where_all_its_sweeps_are_open(tmp_path: Path) -> None:
    store, folder = tmp_path / "runs", tmp_path / "board"
    sample = '<script type="text/plain" id="s0-t0-1">c2VjcmV0</script>'
    alone, shared, closed = add(store, "alone"), add(store, "shared"), add(store, "closed", tasks=["gpqa_diamond"])
    report_on(store, "mine-1", alone, content=f"<p>mine</p>{sample}")
    report_on(store, "both-2", shared, closed, content=f"<p>both</p>{sample}")
    board(store, "--to", folder)
    pages = {each["step"].partition("-")[0]: each["page"] for each in shown(folder)["sweeps"]}
    assert sample in (folder / pages["alone"]).read_text()
    assert (folder / pages["shared"]).read_text() == (folder / pages["closed"]).read_text() == "<p>both</p>"
    closed.unmark_done()
    board(store, "--to", folder)
    assert sample not in (folder / pages["shared"]).read_text(), "the closed task's sweep is in that page all the same"


@pytest.mark.parametrize(
    ("task", "open_"),
    [
        ({"name": "letters"}, True),
        ({"name": "math500"}, True),
        ({"name": "mine", "path": "questions.jsonl"}, True),
        ({"name": "gpqa_diamond"}, False),
        ({"name": "gpqa_diamond", "path": "gpqa.jsonl"}, False),
        ({"name": "gpqa", "dataset": "Idavidrein/gpqa"}, False),
        ({"name": "riddles", "dataset": "me/riddles"}, False),
        ({"name": "competition", "dataset": "HuggingFaceH4/MATH-500"}, True),
        ({"name": "hard", "path": "${questions}"}, False),
        (None, False),
    ],
)
def test_questions_are_passed_on_only_where_that_is_known_to_be_allowed(task: Any, open_: bool) -> None:
    assert entries.is_open(task) is open_


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--against", "bse"], "--against: no finished sweep 'bse': give a step's name or its folder's, such as base-"),
        (["--to", "{store}"], "--to: {store} is there and is no board: give a new folder, or one that a board was"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    store = tmp_path / "runs"
    add(store, "base")
    refused = board(store, "--to", tmp_path / "board", *(each.format(store=store) for each in arguments))
    assert refused.exit_code == 2
    assert refused.output.startswith(said.format(store=store))
    assert refused.output.count("\n") == 1


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    refused = board(tmp_path / "nowhere", "--to", tmp_path / "board")
    assert (refused.exit_code, refused.output) == (
        2,
        f"{tmp_path / 'nowhere'} is no folder: give the store of an experiment, such as runs\n",
    )
