"""The page that follows an experiment: what it says, whom it says it to, and that it refreshes by itself."""

from __future__ import annotations

import html
import json
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.live.page import render
from orchestrator.live.server import served
from orchestrator.live.snapshot import Watch
from orchestrator.plan import plan
from tests.noticed import noticeable
from tests.orchestrator.live.running import HOSTILE, running, train


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    with running(tmp_path) as watch:
        yield watch


def test_it_says_what_status_knows_and_draws_the_losses(watch: Watch) -> None:
    shown = render(watch.look())
    assert "Running" in shown
    assert ">done<" in shown
    assert "30/120 steps" in shown
    assert 'class="done" width="25.0"' in shown
    assert "preempted 1" in shown
    assert "of max_cost $5.00" in shown
    assert "model: loss" in shown
    assert "step 30, 1,234 tokens/s" in shown
    assert "training: 0.1333 nats" in shown
    assert "held out: 0.1667 nats" in shown
    assert HOSTILE not in shown
    assert "connect-src 'self'" in html.unescape(shown)


def test_the_first_page_waits_for_nothing_that_kinds_have_to_show(watch: Watch) -> None:
    shown = render(watch.look(sections=False))
    assert "30/120 steps" in shown
    assert "model: loss" not in shown
    assert not watch.followers


def test_the_curve_grows_with_the_run(watch: Watch) -> None:
    before = watch.look()
    planned = plan(watch.experiment, watch.store)[1]
    train(planned.context(watch.experiment, watch.store), range(31, 61))
    assert "step 60" in watch.look().sections[0].html
    assert "step 60" not in before.sections[0].html


def test_each_line_is_read_once_until_an_attempt_goes_back(watch: Watch) -> None:
    watch.look()
    planned = plan(watch.experiment, watch.store)[1]
    (metrics,) = Path(str(planned.folder.path)).glob("tracked/*/metrics.jsonl")
    with metrics.open("r+b") as file:
        file.write(b"#")  # nobody looks there again
    with metrics.open("a") as file:
        file.write('{"step": 31, "time": 1.0, "values": {"loss": 0.5}}\n{"step": 32, "ti')
    shown = watch.look().sections[0].html
    assert "step 31" in shown
    assert "held out: 0.1667 nats" in shown
    with metrics.open("a") as file:
        file.write('me": 1.0, "values": {"loss": 0.25}}\n')
    assert "training: 0.25 nats" in watch.look().sections[0].html
    context = planned.context(watch.experiment, watch.store)
    context.track("finetune", {}, group="training").rewind(10)
    assert "step 10" in watch.look().sections[0].html


def test_whoever_trains_notices_nothing_of_who_looks(watch: Watch, tmp_path: Path) -> None:
    with noticeable(tmp_path) as noticed:
        assert "step 30" in render(watch.look())
    assert noticed == []


def test_once_nothing_runs_that_is_said(watch: Watch) -> None:
    planned = plan(watch.experiment, watch.store)[1]
    planned.folder.release("run")
    shown = render(watch.look())
    assert "Nothing is running" in shown
    assert "interrupted" in shown


def answer(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_only_who_has_the_token_is_answered_on_the_loopback_interface() -> None:
    content = ["one"]
    with served(content[0], lambda: content[0]) as (address, refresh):
        assert address.startswith("http://127.0.0.1:")
        assert answer(address) == (200, "one")
        content[0] = "two"
        refresh()
        assert answer(address) == (200, "two")
        bare = address.partition("?")[0]
        for wrong in (bare, f"{bare}?token=", f"{address}x", address.replace("token=", "token=%C3%A9")):
            assert answer(wrong)[0] == 403
        assert answer(address.replace("/?", "/etc/passwd?"))[0] == 404
        assert answer(address, Host="evil.example")[0] == 421, "another site's name that means this machine"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=1)


def test_a_browser_that_goes_away_is_not_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    with served("x" * 10_000_000, str) as (address, _):
        where = urlsplit(address)
        for _ in range(3):
            with socket.create_connection((str(where.hostname), int(where.port or 0)), 5) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.sendall(f"GET /?{where.query} HTTP/1.0\r\nHost: {where.netloc}\r\n\r\n".encode())
                gone.recv(10)
        time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_each_page_has_a_token_of_its_own() -> None:
    with served("", str) as (first, _), served("", str) as (second, _):
        assert first.partition("token=")[2] != second.partition("token=")[2]
        assert len(first.partition("token=")[2]) >= 32


def test_a_damaged_note_does_not_end_it(watch: Watch) -> None:
    planned = plan(watch.experiment, watch.store)[1]
    (planned.folder.path / "progress.json").write_text(json.dumps({"done": "x"}))
    assert "running" in render(watch.look())
