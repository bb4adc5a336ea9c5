"""Looking at a run, stopping it, and cleaning up after it, from another terminal: through the store alone."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.experiment import load
from orchestrator.garbage import unreachable
from orchestrator.logs import follow, printable
from orchestrator.plan import plan
from orchestrator.store import Claim, Store
from tests.orchestrator.workplace import SLOW, Workplace, all_gone, descendants, wait_for


def test_a_run_is_watched_its_log_followed_and_it_is_stopped_from_elsewhere(workplace: Workplace) -> None:
    workplace.write(SLOW)
    run = workplace.start("run", "words.yaml")
    workplace.wait_until_generating(run)
    children = descendants(run)
    watching = workplace.start("status", "words.yaml", "--watch")
    following = workplace.start("logs", "words.yaml", "letters", "--follow")
    code, output = workplace.run("cancel", "words.yaml")
    assert code == 0, output
    assert "stopped; the same run command continues" in output
    output, _ = run.communicate(timeout=200)
    assert run.returncode == 128 + 15, output
    assert "the same command continues" in output
    wait_for(lambda: all_gone(children))
    shown, _ = watching.communicate(timeout=200)
    assert watching.returncode == 0
    assert "cancelled" in shown
    said, _ = following.communicate(timeout=200)
    assert following.returncode == 0
    assert said.startswith("controller | --- controller on ")
    assert workplace.run("cancel", "words.yaml") == (0, "words: nothing is running\n")


def test_a_request_to_an_earlier_run_stops_no_later_one(tmp_path: Path) -> None:
    folder = Store(tmp_path).step("letters", "0" * 16)
    folder.create({})
    folder.request_cancel("earlier")
    assert folder.cancel_requested("earlier")
    assert not folder.cancel_requested("later")


def test_logs_of_what_is_not_there_are_refused_in_one_line(workplace: Workplace) -> None:
    workplace.write(10)
    assert workplace.run("logs", "words.yaml", "letter") == (2, "'letter' is no step of words.yaml: it has letters\n")
    code, output = workplace.run("logs", "words.yaml", "letters")
    assert (code, output) == (2, "letters: nothing was logged, because it never ran as it is written now\n")


def test_followed_lines_come_whole_and_in_order_whoever_writes_them(tmp_path: Path) -> None:
    first, second = tmp_path / "rank-2.txt", tmp_path / "rank-10.txt"
    first.write_bytes(b"a\nhalf")
    calls = 0

    def ended() -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            second.write_bytes(b"b\nno end")
            first.write_bytes(b"a\nhalf and half\n")
        return calls == 3

    assert list(follow(tmp_path, ended)) == [
        ("rank-2", "a"),
        ("rank-2", "half and half"),
        ("rank-10", "b"),
        ("rank-10", "no end"),
    ]


@given(st.text().filter(lambda text: "\n" not in text))
def test_no_logged_line_moves_the_cursor_or_rings(line: str) -> None:
    shown = printable(f"\x1b[2J\x1b]0;title\x07{line}\x9b31m")
    assert not any(ord(character) < 32 and character != "\t" for character in shown)
    assert not any(127 <= ord(character) < 160 for character in shown)


def test_of_a_line_drawn_over_again_the_last_state_is_shown() -> None:
    assert printable("loading:  0%\rloading: 50%\rloading: 100%\r") == "loading: 100%"


def test_what_no_kept_experiment_reaches_is_listed_and_deleted_only_when_asked(workplace: Workplace) -> None:
    workplace.write(100)
    old = plan(load(workplace.file), Store(workplace.folder / "runs"))[0].folder
    workplace.write(200)
    store = Store(workplace.folder / "runs")
    (step,) = plan(load(workplace.file), store)
    for folder in (old, step.folder):
        folder.create({})
    (store.traces / ("a" * 16)).mkdir(parents=True)
    (store.traces / ("b" * 16)).mkdir()
    (store.traces / ("b" * 16) / "x.parquet").write_bytes(b"x" * 2000)
    (step.folder.path / "uses.json").write_text(json.dumps(["a" * 16]))
    (store.root / "notes").mkdir()
    code, output = workplace.run("gc", "words.yaml")
    assert code == 0, output
    assert "2 folders, 2." in output, output
    assert "nothing was deleted" in output
    assert old.path.is_dir()
    claim = Claim.by_this_process("live")
    old.claim(claim)
    assert [garbage.path.name for garbage in unreachable(store, [step])] == ["b" * 16]
    old.release("live")
    code, output = workplace.run("gc", "words.yaml", "--delete")
    assert code == 0, output
    assert "deleted 2 folders" in output
    assert sorted(path.name for path in store.root.iterdir()) == sorted(["notes", "traces", step.folder.path.name])
    assert [path.name for path in store.traces.iterdir()] == ["a" * 16]
