"""Looking at a run, stopping it, and cleaning up after it, from another terminal: through the store alone."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.experiment import load
from orchestrator.garbage import unreachable
from orchestrator.logs import follow, printable
from orchestrator.plan import plan
from orchestrator.store.errors import StoreError
from orchestrator.store.leases import Lease
from orchestrator.store.step_folders import StepFolder, Store
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
    assert workplace.run("logs", "words.yaml", "letter") == (
        2,
        "'letter' is not a step of words.yaml: it has letters\n",
    )
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
    lease = Lease.by_this_process("live")
    old.acquire(lease)
    assert [garbage.path.name for garbage in unreachable(store, [step])] == ["b" * 16]
    old.release("live")
    code, output = workplace.run("gc", "words.yaml", "--delete")
    assert code == 0, output
    assert "deleted 2 folders" in output
    assert sorted(path.name for path in store.root.iterdir()) == sorted(["notes", "traces", step.folder.path.name])
    assert [path.name for path in store.traces.iterdir()] == ["a" * 16]


def colleague(store: Store, name: str, digit: str, takes: str = "", traces: str = "") -> StepFolder:
    """A step of an experiment whose file is not here."""
    folder = store.step(name, digit * 16)
    folder.create({"job": "evaluate", "config": {"model": f"${{{takes * 16}}}" if takes else "hub/model"}})
    if traces:
        (store.traces / (traces * 16)).mkdir(parents=True)
        (folder.path / "uses.json").write_text(json.dumps([traces * 16]))
    return folder


def finished(folder: StepFolder) -> None:
    folder.write_status(state="done")
    folder.mark_done()


def names(store: Store, **how: bool) -> list[str]:
    return sorted(garbage.within for garbage in unreachable(store, [], **how))


def test_what_a_colleagues_live_sweep_takes_is_kept_with_its_traces(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(colleague(store, "data", "a"))
    finished(colleague(store, "train", "b", takes="a"))
    finished(colleague(store, "old", "c"))
    sweep = colleague(store, "sweep", "d", takes="b", traces="e")
    sweep.acquire(Lease("run", "another-machine", 1, 0.0, time.time()))
    assert names(store, unfinished=True) == ["old-" + "c" * 16]
    sweep.release("run")
    assert len(names(store, unfinished=True)) == 5


@pytest.mark.parametrize("state", ["cancelled", "failed", "running", "waiting"])
def test_what_a_colleagues_unfinished_sweep_takes_is_kept_unless_it_is_asked_for(tmp_path: Path, state: str) -> None:
    store = Store(tmp_path)
    finished(colleague(store, "train", "b", traces="f"))
    sweep = colleague(store, "sweep", "d", takes="b", traces="e")
    sweep.write_status(state=state)
    assert names(store) == []
    everything = ["sweep-" + "d" * 16, "traces/" + "e" * 16, "traces/" + "f" * 16, "train-" + "b" * 16]
    assert names(store, unfinished=True) == everything
    finished(sweep)
    assert names(store) == everything, (
        "a finished step that no experiment here names is garbage, and so is what it took"
    )


def test_a_live_run_whose_machine_has_another_clock_keeps_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    finished(colleague(store, "train", "b"))
    sweep = colleague(store, "sweep", "d", takes="b")
    late = Lease("run", "another-machine", 1, 0.0, time.time() - 3600)
    sweep.acquire(late)
    monkeypatch.setattr("orchestrator.store.leases.HEARTBEAT", 0.1)
    monkeypatch.setattr("orchestrator.store.leases.WATCHED", 0.5)
    assert len(names(store, unfinished=True)) == 2
    beating = threading.Timer(0.2, lambda: sweep.acquire(replace(late, heartbeat=late.heartbeat + 5)))
    beating.start()
    assert names(store, unfinished=True) == []
    beating.join()


@pytest.mark.parametrize("record", ["identity.json", "uses.json"])
def test_where_damage_hides_what_a_live_step_takes_nothing_is_garbage(tmp_path: Path, record: str) -> None:
    store = Store(tmp_path)
    finished(colleague(store, "train", "b"))
    sweep = colleague(store, "sweep", "d", takes="b")
    sweep.acquire(Lease.by_this_process("live"))
    (sweep.path / record).write_text("{")
    with pytest.raises(StoreError, match=rf"{record} is .*nothing is garbage: run its experiment again"):
        names(store)
