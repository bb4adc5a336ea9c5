"""The sandbox: what hostile programs can do in it, which is to be ended, and what they can learn, which is nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import indent

import psutil
import pytest

from jobs.evaluate.grading.sandbox import ProgramRun, RunLimits, run, runs
from tests.conftest import ROOT

SHORT = RunLimits(seconds=1, patience=4, memory=256 << 20, processes=8, file_bytes=1 << 20, output=1 << 16)


def only(program: str, given: str = "", function: str | None = None) -> ProgramRun:
    [ran] = run(program, [given], function, SHORT)
    return ran


def test_a_program_is_run_once_for_each_input_alone() -> None:
    program = "import os\nopen('mine', 'x').close()\nprint(int(input()) * 2, len(os.listdir('.')))"
    assert [each.printed for each in run(program, ["1\n", "2\n", "3\n"])] == ["2 1\n", "4 1\n", "6 1\n"]


def test_a_function_or_a_method_is_called_with_a_line_for_each_argument() -> None:
    method = "class Solution:\n    def add(self, a, b):\n        print('noise')\n        return [a + b, (1, 2)]"
    assert [each.returned for each in run(method, ["1\n2", "3\n4"], "add")] == ["[3, [1, 2]]", "[7, [1, 2]]"]
    assert only("def add(a, b): return a + b", '"x"\n"y"', "add").returned == '"xy"'
    assert only("def add(a): return {1, 2}", "1", "add") == ProgramRun("failed", "", None)


def test_what_programs_commonly_need_is_there() -> None:
    program = """
import sys, threading, numpy
sys.setrecursionlimit(10**6)
threading.stack_size(1 << 26)
def down(n):
    return n if n == 0 else down(n - 1)
def main():
    print(down(50_000), numpy.arange(3).sum(), sys.stdin.readline().strip(), open(0).read().strip())
thread = threading.Thread(target=main)
thread.start()
thread.join()
exit()
"""
    [ran] = run(program, ["one\ntwo\n"])
    assert ran.ended == "finished"
    assert ran.printed.split()[:3] == ["0", "3", "one"]


@pytest.mark.seconds
@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"time", "processes", "memory"}),
        ("held = []\nwhile True: held.append(bytearray(1 << 20))", {"failed", "memory", "time"}),
        (
            "import os, time\nfor _ in range(6):\n    if not os.fork():\n        held = bytearray(100 << 20)\n"
            "        time.sleep(9)\ntime.sleep(9)",
            {"memory"},
        ),
        ("while True: print('x' * 10_000)", {"output"}),
        ("import os\nwhile True: os.write(2, b'x' * 10_000)", {"time"}),
        ("while True: pass", {"time"}),
        ("import time; time.sleep(100)", {"time"}),
        (
            "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except OSError: pass\nwhile True: pass",
            {"time"},
        ),
        ("open('big', 'wb').write(b'x' * (2 << 20))", {"failed"}),
        ("for n in range(9): open(f'big{n}', 'wb').write(b'x' * (1 << 19))", {"failed"}),
        ("for n in range(10**6): open(f'n{n}', 'w')", {"failed"}),
        ("import os; os.kill(1, 9); os.kill(os.getppid(), 9); os.kill(-1, 9)", {"failed", "time"}),
        ("raise SystemExit('no')", {"failed"}),
        ("import os; os.abort()", {"failed"}),
    ],
)
def test_whatever_goes_beyond_a_limit_is_ended_and_the_next_run_is_as_if_nothing_had_been(
    program: str, ended: set[str]
) -> None:
    began = time.monotonic()
    hostile = "if input() == 'good':\n    print('well')\nelse:\n" + indent(program, "    ")
    first, second = run(hostile, ["bad\n", "good\n"], limits=SHORT)
    assert first.ended in ended
    assert second == ProgramRun("finished", "well\n", None)
    assert time.monotonic() - began < 60


def test_packages_are_there_wherever_they_were_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below /tmp, where programs would write."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "module.py").write_text("canary")
    monkeypatch.setattr(runs, "_SYSTEM", (*runs._SYSTEM, str(tmp_path / "packages")))
    module = str(tmp_path / "packages" / "module.py")
    program = f"import tempfile\nprint(open({module!r}).read())\nprint(tempfile.mkstemp()[1])\nopen({module!r}, 'w')"
    ran = only(program)
    assert ran.printed.startswith("canary\n/box/")
    assert ran.ended == "failed"


def test_nothing_that_a_program_started_is_left() -> None:
    """Neither where it runs out of time, nor where whoever asked loses interest."""
    lives = "import os, time, sys\nif not os.fork():\n    os.setsid()\n    time.sleep(600)\nprint('ok')"
    before = {each.pid for each in psutil.process_iter()}
    [ran] = run(lives, [""])
    assert ran == ProgramRun("finished", "ok\n", None)
    begun = run(
        "import os, time\nos.fork()\nprint(input(), flush=True)\nif input() == 'sleep': time.sleep(600)",
        ["a\nb", "c\nsleep"],
    )
    next(begun)
    begun.close()
    deadline = time.monotonic() + 20
    while (
        left := {
            each.pid
            for each in psutil.process_iter(["cmdline"])
            if any("jail.py" in part for part in each.info["cmdline"] or ())
        }
        - before
    ):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_there_is_no_network() -> None:
    """Not the machine's own either: what listens here is not reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = only(
            "import socket\n"
            f"for address in [('127.0.0.1', {server.getsockname()[1]}), ('8.8.8.8', 53)]:\n"
            "    try:\n        socket.create_connection(address, 1); print('connected')\n"
            "    except OSError as error: print(error.errno)\n"
            "print([name for _, name in socket.if_nameindex()])"
        ).printed
    assert "connected" not in said
    assert said.endswith("['lo']\n")


def test_neither_the_environment_nor_files_nor_other_processes_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-token")
    (tmp_path / "store").write_text("canary-store")
    looks = f"""
import os, glob
print(dict(os.environ))
for path in {[str(tmp_path / "store"), str(ROOT / "README.md"), "/etc/passwd", "/root/.bashrc", "/home", "/old"]!r}:
    print(path, os.path.exists(path))
print(os.listdir("/proc/self/fd"))
for path in [*glob.glob("/proc/[0-9]*/environ"), *glob.glob("/proc/[0-9]*/cmdline"), "/proc/1/maps", "/proc/1/fd/0"]:
    try: print(open(path, "rb").read())
    except OSError as error: print(error.errno)
print(sorted(name for name in os.listdir("/proc") if name.isdecimal()))
print(os.getcwd(), os.listdir("/"))
"""
    said = only(looks).printed
    assert "canary" not in said
    assert "True" not in said
    processes = next(line for line in said.splitlines() if line.startswith("['1'"))
    assert processes.count(",") + 1 == 2


@pytest.mark.parametrize(
    "path", ["/usr/here", "/here", "/dev/null/x", "/proc/sys/kernel/hostname", f"{sys.prefix}/here", "/tmp/../here"]
)
def test_nothing_outside_its_own_folder_can_be_written(path: str) -> None:
    assert only(f"open({path!r}, 'w').write('x')").ended == "failed"
    assert not os.path.exists("/here")


def test_no_way_to_end_counts_as_having_returned() -> None:
    for tricky in ("import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "quit()"):
        assert only(tricky, "1\n2", "add") == ProgramRun("finished", "", None)


def test_runs_at_once_do_not_get_in_each_others_way() -> None:
    said: dict[int, str] = {}

    def one(number: int) -> None:
        said[number] = only(f"print({number})").printed

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: f"{number}\n" for number in range(4)}


def test_a_user_without_rights_has_the_same_sandbox_and_a_machine_that_forbids_it_is_said() -> None:
    """In a user namespace, as whoever is not root has it; and in one that may have no others below it."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from jobs.evaluate.grading.sandbox import RunLimits, run, unavailable
why = unavailable()
print(why)
if why is None:
    for program in ("import os\\nwhile True:\\n    try: os.fork()\\n    except OSError: pass",
                    "open('/proc/1/mem', 'rb')", "open('/here', 'w')",
                    "import os; os.setuid(1)", "import os; print(os.getuid())"):
        print([(each.ended, each.printed) for each in run(program, [""], limits=RunLimits(1, 2, processes=8))])
"""
    within = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    none, forks, looks, writes, becomes, who = subprocess.run(
        within, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert none == "None"
    assert forks in ("[('time', '')]", "[('processes', '')]", "[('memory', '')]")
    assert (looks, writes, becomes, who) == (*["[('failed', '')]"] * 3, "[('finished', '0\\n')]")
    forbidden = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"',
        "sh",
    ]
    [said] = subprocess.run([*forbidden, *within[3:]], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == "unshare: No space left on device"
