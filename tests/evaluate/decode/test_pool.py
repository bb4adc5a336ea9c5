"""The pool on a real Ray cluster of this machine, with a scripted engine in its replicas."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st
from ray.util.placement_group import placement_group, remove_placement_group

from jobs.evaluate.decode import member, pool
from jobs.evaluate.decode.forecast import Forecast, Progress
from jobs.evaluate.decode.pool import decode
from jobs.evaluate.decode.replica import Decoded, ReplicaSpec, Work
from jobs.evaluate.engines.protocol import Engine, Sampling
from jobs.evaluate.resources import EvaluateResources, Replicas
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.prompts import Unit
from jobs.evaluate.sweep.tree import Key, Room, grow, leaf
from jobs.evaluate.traces.files import Index, write
from jobs.evaluate.traces.segments import Segment, root
from orchestrator.job import retries
from orchestrator.job.errors import StepError
from orchestrator.job.retries import OutOfRetries, Retries
from tests.evaluate import scripted
from tests.evaluate.oracle import alone
from tests.evaluate.scripted import Script, forcing

pytestmark = pytest.mark.usefixtures("nothing_stays")

INJECTED = {"Wait": (16,), "": ()}
POLICIES = grid([2, 8, 16, None], ["Wait", ""], [1, 2])
TREE = grow(POLICIES, {string: len(ids) for string, ids in INJECTED.items()})
SCRIPT = Script(1, 10)
CPU = {"CPU": 1.0}


def units(count: int) -> list[Unit]:
    return [Unit(f"item {number}", 0, (5, 6, 7 + number), Room(60, 4)) for number in range(count)]


def resources(
    most: int = 1, in_flight: int = 8, retries: int = 3, wait: float = 60, token_deadline: float = 60
) -> EvaluateResources:
    return EvaluateResources(
        replicas=Replicas(max=most),
        in_flight=in_flight,
        retries=Retries(infrastructure=retries),
        wait=wait,
        token_deadline=token_deadline,
    )


def spec(
    folder: Path, start: Callable[[], Awaitable[Engine]], in_flight: int = 8, token_deadline: float = 60
) -> ReplicaSpec:
    return ReplicaSpec(start, (TREE,), forcing(INJECTED), Sampling(), 0, folder, in_flight, token_deadline)


def pids(folder: Path) -> Path:
    (folder / "pids").mkdir(exist_ok=True)
    return folder / "pids"


def assert_gone(processes: list[int]) -> None:
    """What was killed takes a moment to be gone, and longer on a busy machine."""
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in processes):
        assert time.monotonic() < deadline, "a replica's process is still there"
        time.sleep(0.1)


def untold(progress: Progress) -> None:
    """Progress that nobody follows."""


def quiet(line: str) -> None:
    raise AssertionError(f"reported: {line}")


def assert_every_leaf_is_there(folder: Path, expected: list[Unit]) -> Decoded:
    """Returns how many tokens the files hold; no token of a piece is there twice."""
    index = Index(folder, quiet)
    thinking = answers = 0
    for unit in expected:
        known = index.unit(unit.item, unit.sample)
        for policy in POLICIES:
            got = leaf(TREE, policy, unit.room, known.extent)
            want = alone(policy, unit, SCRIPT, forcing(INJECTED))
            assert (got.thinking_tokens, got.answer_tokens) == (len(want.thinking), len(want.answer))
        places = Counter((row.key, row.start) for row in known.rows)
        assert max(places.values()) == 1
        for row in known.rows:
            thinking += row.length * (row.key.kind == "thinking")
            answers += row.length * (row.key.kind != "thinking")
    return Decoded(thinking, answers)


def test_all_units_are_decoded_and_everything_is_given_back(tmp_path: Path) -> None:
    told: list[Progress] = []
    start = partial(scripted.start, pids(tmp_path), SCRIPT)
    work = [Work(unit) for unit in units(300)]
    decoded = decode(work, spec(tmp_path, start), Index(tmp_path, quiet), resources(2), CPU, "all", told.append)
    assert decoded == assert_every_leaf_is_there(tmp_path, units(300))
    for seen in ([each.units for each in told], [each.tokens for each in told]):
        assert seen == sorted(seen)
    assert told[-1] == Progress(decoded.tokens, decoded.tokens, 300, 0, 0.0)
    started = [int(file.name) for file in pids(tmp_path).iterdir()]
    assert len(started) == 2
    assert_gone(started)


def test_a_replica_killed_in_mid_sweep_is_replaced_and_no_record_is_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = partial(scripted.start, pids(tmp_path), SCRIPT, delay=0.02)
    killed: list[int] = []
    in_a_row: list[int] = []

    def no_pause(number: int) -> float:
        in_a_row.append(number)
        return 0.1

    monkeypatch.setattr(retries, "backoff", no_pause)

    def kill_two() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
            alive = [int(file.name) for file in pids(tmp_path).iterdir() if int(file.name) not in killed]
            written = len(list(tmp_path.glob("*.parquet")))
            if alive and written > 2 * (1 + len(killed)):
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])

    killer = threading.Thread(target=kill_two)
    killer.start()
    work = [Work(unit) for unit in units(60)]
    counts: list[Progress] = []
    decode(work, spec(tmp_path, start), Index(tmp_path, quiet), resources(), CPU, "killed", counts.append)
    killer.join()
    assert len(killed) == 2
    assert in_a_row == [1, 1], "units were done in between"
    assert counts[-1].units == 60
    assert_every_leaf_is_there(tmp_path, units(60))
    index = Index(tmp_path, quiet)
    rows = sum(len(index.unit(unit.item, 0).rows) for unit in units(60))
    assert rows == index.size, "a record that was on disk was decoded a second time"


class SlowIndex(Index):
    """An index of a folder with so much in it that reading takes its time."""

    SECONDS = 6.0

    def refresh(self) -> None:
        super().refresh()
        if self.size:
            time.sleep(self.SECONDS)


def test_replicas_are_given_work_while_it_is_read_what_a_lost_one_wrote(tmp_path: Path) -> None:
    start = partial(scripted.start, pids(tmp_path), SCRIPT, delay=0.02)
    index = SlowIndex(tmp_path, quiet)

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.05)
            alive = [int(file.name) for file in pids(tmp_path).iterdir()]
            if len(alive) == 2 and len(list(tmp_path.glob("*.parquet"))) > 2:
                os.kill(alive[0], signal.SIGKILL)
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    heard: list[float] = []
    two = resources(2, in_flight=2)
    work = [Work(unit) for unit in units(60)]
    decode(work, spec(tmp_path, start, 2), index, two, CPU, "slow", lambda done: heard.append(time.monotonic()))
    killer.join()
    waits = [later - before for before, later in pairwise(heard)]
    assert max(waits) < SlowIndex.SECONDS - 2, "the loop waited until all was read"
    assert_every_leaf_is_there(tmp_path, units(60))


def test_progress_moves_while_long_traces_decode_and_none_of_them_has_ended(tmp_path: Path) -> None:
    """Of a trace without a budget nothing is on disk before its end."""
    told: list[Progress] = []
    tree = grow(grid([None]), {"": 0})
    room = Room(10_000, 4)
    work = [Work(Unit(f"item {number}", 0, (5, 6, 7 + number), room)) for number in range(4)]
    start = partial(scripted.start, pids(tmp_path), Script(1, 0), delay=0.02)  # never ends by itself
    own = ReplicaSpec(start, (tree,), forcing({"": ()}), Sampling(), 0, tmp_path, 4)

    class Enough(Exception):
        pass

    def tell(progress: Progress) -> None:
        told.append(progress)
        if len({each.tokens for each in told}) > 4:
            raise Enough

    forecast = Forecast(2000)
    with pytest.raises(Enough):
        decode(work, own, Index(tmp_path, quiet), resources(), CPU, "long", tell, forecast=forecast)
    assert {each.units for each in told} == {0}
    assert all(each.tokens < each.expected for each in told)


def test_an_engine_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    start = partial(scripted.start, pids(tmp_path), SCRIPT, fail_after=20)
    work = [Work(unit) for unit in units(50)]
    with pytest.raises(OutOfRetries, match=r"lost 2 times.*retries.infrastructure allows 1.*the script says so"):
        decode(work, spec(tmp_path, start), Index(tmp_path, quiet), resources(retries=1), CPU, "failing", untold)


def test_an_engine_that_never_starts_is_the_users_to_put_right(tmp_path: Path) -> None:
    vain = spec(tmp_path, scripted.start_in_vain)
    with pytest.raises(StepError, match=r"engine: .*out of memory"):
        decode([Work(units(1)[0])], vain, Index(tmp_path, quiet), resources(), CPU, "vain", untold)


@pytest.mark.parametrize("holds_loop", [False, True], ids=["its process answers", "its process does not"])
def test_a_replica_whose_engine_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], holds_loop: bool
) -> None:
    monkeypatch.setattr(member, "OVERDUE_SECONDS", 2)
    start = partial(scripted.start_and_hang_once, pids(tmp_path), SCRIPT, holds_loop)
    work = [Work(unit) for unit in units(40)]
    own = spec(tmp_path, start, token_deadline=1)
    decode(work, own, Index(tmp_path, quiet), resources(token_deadline=1), CPU, "hang", untold)
    assert_every_leaf_is_there(tmp_path, units(40))
    assert ("did not answer" if holds_loop else "engine hangs: no token of") in capfd.readouterr().out
    started = [int(file.name) for file in pids(tmp_path).iterdir()]
    assert len(started) > 1, "more than two where the machine is as slow as an engine that hangs"
    assert_gone(started)


def test_a_full_disk_is_an_error_with_nothing_half_written(tmp_path: Path) -> None:
    full = partial(scripted.start_on_a_full_disk, pids(tmp_path), SCRIPT, most=48 << 10)
    work = [Work(unit) for unit in units(600)]
    with pytest.raises(StepError, match=r"^traces: no space left in .*: free some") as raised:
        decode(work, spec(tmp_path, full, 600), Index(tmp_path, quiet), resources(in_flight=600), CPU, "full", untold)
    assert "\n" not in str(raised.value)
    assert [file for file in tmp_path.iterdir() if file.is_file() and file.suffix != ".parquet"] == []
    index = Index(tmp_path, quiet)
    left = [
        Work(unit, tuple(known.rows), tuple(index.places(known.rows)))
        for unit in units(600)
        for known in [index.unit(unit.item, 0)]
    ]
    start = partial(scripted.start, pids(tmp_path), SCRIPT)
    decode(left, spec(tmp_path, start, 600), index, resources(in_flight=600), CPU, "freed", untold)
    assert_every_leaf_is_there(tmp_path, units(600))


def test_resources_that_never_come_are_an_error_with_what_was_asked_and_what_there_is(tmp_path: Path) -> None:
    never = spec(tmp_path, partial(scripted.start, pids(tmp_path), SCRIPT))
    demand = {"CPU": 64.0, "GPU": 2.0}
    with pytest.raises(
        StepError, match=r"1 x \(64 CPU, 2 GPU\), .* within 2 seconds; the cluster has 2 CPU \(2 free\), 0 GPU"
    ):
        decode([Work(units(1)[0])], never, Index(tmp_path, quiet), resources(wait=2), demand, "never", untold)


def test_groups_of_a_killed_driver_are_removed_first(tmp_path: Path) -> None:
    left = placement_group([{"CPU": 2}], name="step-abc-11111111")
    ray.get(left.ready())
    start = partial(scripted.start, pids(tmp_path), SCRIPT)
    work = [Work(unit) for unit in units(3)]
    decode(work, spec(tmp_path, start), Index(tmp_path, quiet), resources(wait=20), CPU, "step-abc", untold)
    assert_every_leaf_is_there(tmp_path, units(3))


def test_a_sweep_that_holds_something_already_does_not_wait_for_the_gang_that_waits_for_it(tmp_path: Path) -> None:
    held, gang = placement_group([CPU]), placement_group([CPU, CPU])
    ray.get(held.ready())
    start = partial(scripted.start, pids(tmp_path), SCRIPT)
    work = [Work(unit) for unit in units(4)]
    decode(work, spec(tmp_path, start), Index(tmp_path, quiet), resources(1), CPU, "begun", untold, begun=True)
    assert_every_leaf_is_there(tmp_path, units(4))
    for each in (gang, held):
        remove_placement_group(each)


def test_a_partial_unit_is_continued_and_a_damaged_one_decoded_again(tmp_path: Path) -> None:
    trunk = Key((), "thinking")
    both = units(2)
    whole = [alone(POLICIES[3], unit, SCRIPT, forcing(INJECTED)).thinking for unit in both]
    for unit, tokens in zip(both, whole, strict=True):
        write(tmp_path, [Segment(unit.item, 0, trunk, 0, tokens[:4], False, root(unit.item, 0))])
    said: list[str] = []
    index = Index(tmp_path, said.append)
    works = []
    for unit in both:
        known = index.unit(unit.item, 0)
        assert known.extents[trunk].length == 4
        works.append(Work(unit, tuple(known.rows), tuple(index.places(known.rows))))
    damaged = Path(works[1].places[0][0])
    damaged.write_bytes(damaged.read_bytes()[:-100])
    start = partial(scripted.start, pids(tmp_path), SCRIPT)
    decoded = decode(works, spec(tmp_path, start), index, resources(), CPU, "partial", untold)
    assert [damaged.name in line for line in said] == [True]
    total = assert_every_leaf_is_there(tmp_path, both)
    assert decoded.thinking == total.thinking - 4


@given(*[st.integers(1, 200)] * 2, *[st.integers(0, 300)] * 2, st.integers(1, 64))
def test_a_replica_gets_what_it_lacks_and_a_reserve_that_shrinks_with_the_queue(
    at_once: int, finished: int, held: int, queued: int, members: int
) -> None:
    given_now = pool.share(at_once, finished, held, queued, members)
    assert 0 <= given_now <= queued
    if held < at_once:
        assert given_now >= min(at_once - held, queued)
    assert held + given_now <= max(held, at_once + queued // (2 * members))
