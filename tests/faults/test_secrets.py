"""Secrets reach the processes of a run through the environment, and nothing that it writes, says or shows has them."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import psutil

VARIABLES = ("HF_TOKEN", "OPENAI_API_KEY", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY")

EXPERIMENT = """\
name: secrets
steps:
  letters: {job: letters, train: 128, test: 8}
  tiny:
    job: finetune
    model: {random: qwen2, layers: 1, hidden_size: 64}
    data: ${letters}
    batch_size: 32
    resources: {workers: 1}
  sweep:
    job: evaluate
    model: ${tiny}
    tasks: ["${letters}"]
    budgets: [4, auto]
  broken:
    job: evaluate
    model: ${tiny}
    tasks: ["${letters}"]
    engine: openai
    served_model: none
    resources:
      retries: {infrastructure: 0}
      server: {url: "http://127.0.0.1:9/v1", key_variable: OPENAI_API_KEY, retries: 0}
"""


def test_no_secret_is_written_said_or_shown(environment: dict[str, str], checkout: Path, tmp_path: Path) -> None:
    canaries = {name: f"canary{secrets.token_hex(12)}" for name in VARIABLES}
    (tmp_path / "secrets.yaml").write_text(EXPERIMENT)
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as session:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "run", "secrets.yaml"],
            cwd=tmp_path,
            env={**environment, **canaries, "RAY_TMPDIR": session, "PYTHONPATH": str(checkout)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        commands: set[str] = set()
        reached: set[str] = set()
        over = threading.Event()

        def look_at(each: psutil.Process) -> None:
            with suppress(psutil.Error), each.oneshot():
                command = " ".join(each.cmdline())
                commands.add(command)
                if "_run_step" in command:
                    reached.update(set(canaries.values()) & set(each.environ().values()))

        def look_at_processes() -> None:
            own = psutil.Process(process.pid)
            while not over.wait(0.2):
                with suppress(psutil.NoSuchProcess):
                    for each in own.children(recursive=True):
                        look_at(each)

        watcher = threading.Thread(target=look_at_processes)
        watcher.start()
        try:
            output, _ = process.communicate(timeout=400)
        finally:
            over.set()
            watcher.join()
            process.kill()
        assert process.returncode == 1, output.decode()
        assert b"broken: configuration: engine: no answer" in output, output.decode()
        assert b"sweep: done in" in output
        assert reached == set(canaries.values()), "the steps did not get them"
        told = {"the output": output, "a command line": "\n".join(commands).encode()}
        for folder in (tmp_path, Path(session)):
            for path, _, files in os.walk(folder):
                for name in files:
                    file = Path(path) / name
                    if file.is_file():
                        told[str(file)] = file.read_bytes() + str(file).encode()
    assert len(told) > 50
    found = [(name, place) for place, text in told.items() for name, each in canaries.items() if each.encode() in text]
    assert found == []
