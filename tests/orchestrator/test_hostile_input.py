"""Paths, numbers and files that nobody means, wherever they enter: one clear line, exit status 2, within seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster.node_types import ClusterFileError, read
from orchestrator.__main__ import main
from orchestrator.complaints import SHOWN, ExperimentError
from orchestrator.experiment import LARGEST_FILE, load
from tests.conftest import ROOT

LIMIT = 2.0
"""Seconds of this process's own time: how busy the machine is changes nothing."""

SWEEP = {"job": "evaluate", "model": "Qwen/Qwen2.5-7B", "tasks": ["letters"]}
TUNE = {"job": "finetune", "model": "Qwen/Qwen2.5-7B", "data": "simplescaling/s1K"}
CHAT = {
    "job": "evaluate", "engine": "openai", "served_model": "m", "tasks": ["letters"], "baseline": True,
    "resources": {"server": {"url": "http://x/v1"}},
}  # fmt: skip
HEAD = "name: x\nsteps:\n  s: "


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


def invoked(folder: Path, text: str | bytes, verb: str = "plan", *more: str) -> Result:
    file = folder / "experiment.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    result = CliRunner().invoke(main, [verb, str(file), *more])
    took = time.process_time() - began
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert took < LIMIT, f"took {took:.1f} s"
    return result


def refused(folder: Path, text: str | bytes, *more: str) -> list[str]:
    """The lines of the refusal."""
    result = invoked(folder, text, "plan", *more)
    assert result.exit_code == 2, result.output
    lines = result.output.splitlines()
    assert all(line.startswith(f"{folder / 'experiment.yaml'}:") for line in lines), lines
    assert 0 < len(lines) <= SHOWN + 1
    return lines


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


PATHS = {
    "component over 255": "x" * 256,
    "path over 4096": "a/" * 3000,
    "no such user": "~nobody-at-all/x.jsonl",
    "root": "/",
    "memory of a process": "/proc/self/mem",
    "kernel's": "/proc/kmsg",
    "without end": "/dev/zero",
    "terminal": "/dev/tty",
    "nothing": "/dev/null",
    "passwords": "/etc/passwd",
    "folder": "/etc",
}
FIELDS = {
    "task": lambda path: {**SWEEP, "tasks": [{"name": "mine", "path": path}]},
    "data": lambda path: {**TUNE, "data": path},
    "data path": lambda path: {**TUNE, "data": {"path": path}},
    "model": lambda path: {**SWEEP, "model": path},
    "tuned model": lambda path: {**TUNE, "model": path},
    "judge": lambda path: {**SWEEP, "tasks": [{"name": "letters"}], "judge": {"model": path}},
    "deepspeed": lambda path: {**TUNE, "strategy": "deepspeed", "resources": {"deepspeed": {"config": path}}},
}


Field = Callable[[str], object]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
def test_a_path_to_anything_but_a_users_file_is_refused(tmp_path: Path, field: Field, path: str) -> None:
    assert refused(tmp_path, HEAD + json.dumps(field(path)))


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path, field: Field, pipe: str) -> None:
    assert refused(tmp_path, HEAD + json.dumps(field(pipe)))


@pytest.mark.parametrize("path", [*PATHS.values(), "pipe"])
@pytest.mark.parametrize("verb", ["run", "plan", "status", "report", "grade", "cancel", "look", "gc"])
def test_the_experiment_itself_may_be_anything_too(tmp_path: Path, pipe: str, verb: str, path: str) -> None:
    began = time.process_time()
    result = CliRunner().invoke(main, [verb, pipe if path == "pipe" else path])
    assert (result.exit_code, time.process_time() - began < LIMIT) == (2, True), result.output
    assert len(result.output.splitlines()) == 1, result.output


@pytest.mark.parametrize("path", [*PATHS.values(), "pipe"])
def test_so_may_a_cluster_file_and_a_step_to_compare(tmp_path: Path, pipe: str, path: str) -> None:
    path = pipe if path == "pipe" else path
    letters = "name: x\nsteps: {a: {job: letters, train: 1}}"
    assert invoked(tmp_path, letters, "plan", "--cluster", path).exit_code == 2
    result = CliRunner().invoke(main, ["compare", path, path, "--tracking", f"sqlite:///{tmp_path}/mlflow.db"])
    assert result.exit_code == 2, result.output
    assert len(result.output.splitlines()) == 1, result.output


@pytest.mark.parametrize(
    "text", ["a: " + "[" * 5000, "available_node_types: 5", "spec: {workerGroupSpecs: [1]}", "a: " + "x" * 10**6]
)
def test_a_cluster_file_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(ClusterFileError) as refusal:
        read(tmp_path / "cluster.yaml")
    assert len(str(refusal.value).splitlines()) == 1


NUMBERS = {
    "beyond exact": (
        {**TUNE, "batch_size": 9007199254740993},
        "no integer beyond 9,007,199,254,740,991 is kept exactly",
    ),
    "400 digits": ({**SWEEP, "resources": {"gpus": 10**400}}, "no integer beyond"),
    "5000 digits": (HEAD + "{job: letters, train: 1" + "0" * 5000 + "}", "too many digits"),
    "batch": ({**TUNE, "batch_size": 9007199254740991, "resources": {"workers": 10}}, "cannot share batches"),
    "workers": ({**TUNE, "resources": {"workers": 10**9}}, "less than or equal to 10000"),
    "replicas": ({**SWEEP, "resources": {"replicas": {"max": 10**9}}}, "less than or equal to 10000"),
    "count": ({**SWEEP, "extensions": {"strings": ["Wait"], "counts": [10**6]}}, "1000000 is not a count of"),
    "budgets": ({**SWEEP, "budgets": list(range(1, 20_001))}, "the list has 20,000 values: give at most 1,000"),
    "policies": (
        {
            **SWEEP,
            "extensions": {"strings": [f"s{n}" for n in range(500)], "counts": [1], "budgets": [4, 8]},
        },
        "compares 1,001 policies: give at most 1,000",
    ),
    "extensions": ({**SWEEP, "extensions": {"strings": ["a", "b"], "counts": list(range(1, 257))}}, "65,792 in all"),
    "infinite": (HEAD + "{job: letters, train: 1, resources: {wait: .inf}}", ": must be a finite number"),
    "nan": (HEAD + "{job: letters, train: 1, resources: {wait: .nan}}", ": must be a finite number"),
    "overflow": (HEAD + "{job: letters, train: 1, resources: {wait: 1e999}}", ": must be a finite number"),
    "infinite, for a server": (
        {**CHAT, "chat": {"parameters": {"temperature": float("inf")}}},
        "steps.s.chat.parameters.temperature: inf: must be a finite number",
    ),
    "for ever": ({"job": "letters", "train": 1, "resources": {"timeout": 1e300}}, "less than or equal to 1000000000"),
}


@pytest.mark.parametrize(("step", "message"), NUMBERS.values(), ids=NUMBERS.keys())
def test_a_number_that_means_nothing_is_refused(tmp_path: Path, step: object, message: str) -> None:
    lines = refused(tmp_path, step if isinstance(step, str) else HEAD + json.dumps(step).replace("Infinity", ".inf"))
    assert message in lines[0], lines


@pytest.mark.parametrize("megabytes", ["nan", "inf", "-inf", "-1", "1e30", "x"])
def test_a_reports_size_is_a_number(tmp_path: Path, megabytes: str) -> None:
    letters = "name: x\nsteps: {a: {job: letters, train: 1}}"
    result = invoked(tmp_path, letters, "report", "--megabytes", megabytes)
    assert result.exit_code == 2
    assert "--megabytes" in result.output.splitlines()[-1]


def chain(length: int) -> str:
    steps = [{"job": "finetune", "model": {"random": "qwen2", "layers": 1, "hidden_size": 64}, "data": "a/b"}]
    steps += [{"job": "finetune", "model": f"${{t{n - 1}}}", "data": "a/b"} for n in range(1, length)]
    return "name: x\nsteps:\n" + "".join(f"  t{n}: {json.dumps(step)}\n" for n, step in enumerate(steps))


LARGE = {
    "nested lists": "a: " + "[" * 500_000,
    "nested mappings": "".join(f"{' ' * n}a:\n" for n in range(1400)),
    "values": "a: [" + "1," * 499_000 + "]",
    "values, and then no YAML": "a: [" + "1," * 40_000 + '"',
    "aliases of a long text": 'a: &a "' + "x" * 500_000 + '"\nb: [' + "*a," * 90_000 + "]",
    "a long key": f'"{"x" * 1000}": 1\n' * 900,
    "keys": "".join(f"k{n}: 1\n" for n in range(80_000)),
    "duplicates": "a: 1\n" * 80_000,
    "wrong budgets": HEAD + json.dumps({**SWEEP, "budgets": [-1] * 80_000}),
    "wrong jobs": "name: x\nsteps:\n" + "".join(f"  t{n}: {{job: evalute}}\n" for n in range(25_000)),
    "wrong references": "name: x\nsteps:\n"
    + "".join(f"  t{n}: {{job: finetune, model: '${{u{n}}}', data: a/b}}\n" for n in range(12_000)),
    "tasks": HEAD + json.dumps({**SWEEP, "tasks": [{"name": f"t{n}", "path": "x.jsonl"} for n in range(20_000)]}),
    "a long name": f"name: {'x' * 10**6}\nsteps: {{a: {{job: letters, train: 1}}}}",
    "a cycle": "name: x\nsteps:\n"
    + "".join(f"  t{n}: {{job: finetune, model: '${{t{(n + 1) % 3000}}}', data: a/b}}\n" for n in range(3000)),
    "documents": "---\n" * 250_000,
    "bytes": bytes(range(256)) * 4000,
    "more than an experiment": b"#" * (LARGEST_FILE + 1),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
def test_a_megabyte_of_anything_is_refused_within_seconds(tmp_path: Path, text: str | bytes) -> None:
    refused(tmp_path, text)


def test_of_many_complaints_the_first_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    lines = refused(tmp_path, LARGE["duplicates"])
    assert len(lines) == SHOWN + 1
    assert lines[-1].endswith("and 150 more")


def test_a_chain_of_thousands_of_steps_is_planned(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(chain(3000))
    result = CliRunner().invoke(main, ["plan", str(tmp_path / "experiment.yaml")])
    assert result.exit_code == 0, result.output
    assert "t2999  finetune" in result.output
    assert "2,950 steps more" in result.output


@pytest.mark.parametrize("override", ["steps" + ".a" * 3000 + "=1", "." * 3000 + "=1", "steps." + "9" * 5000 + "=1"])
def test_an_override_of_thousands_of_levels_is_refused(tmp_path: Path, override: str) -> None:
    lines = refused(tmp_path, "name: x\nsteps: {a: {job: letters, train: 1}}", "--set", override)
    assert len(lines) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "a\\0b"\nsteps: {a: {job: letters, train: 1}}', "1: a NUL character is not text"),
        (HEAD + json.dumps({**SWEEP, "model": "a\0b"}), "a NUL character is not text"),
        (HEAD + '{job: letters, train: 1, seed: "\\ud800"}', "half a character (a lone surrogate) is not text"),
        (HEAD + '{job: letters, train: 1, "\\udfff": 1}', "half a character (a lone surrogate) is not text"),
    ],
)
def test_text_that_is_none_is_called_so(tmp_path: Path, text: str, message: str) -> None:
    lines = refused(tmp_path, text)
    assert any(message in line for line in lines), lines
    assert not any("JSON" in line for line in lines)


@pytest.mark.parametrize(
    ("field", "value"), [("layers", 0), ("layers", "two"), ("hidden_size", 100), ("random", "qwen9")]
)
def test_a_wrong_value_of_a_random_model_complains_of_that_alone(tmp_path: Path, field: str, value: object) -> None:
    model = {"random": "qwen2", "layers": 2, "hidden_size": 128, field: value}
    (line,) = refused(tmp_path, HEAD + json.dumps({**TUNE, "model": model}))
    assert f"steps.s.model.{field}:" in line, line


def test_a_store_that_cannot_be_written_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.store.step_folders import StepFolder

    def read_only(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(StepFolder, "done", lambda self: True)
    monkeypatch.setattr(Path, "touch", read_only)
    text = (
        f"name: x\nstore: {tmp_path}/runs\ntracking: sqlite:///{tmp_path}/mlflow.db\nsteps: {{s: {json.dumps(SWEEP)}}}"
    )
    (tmp_path / "runs" / "s-0").mkdir(parents=True)
    for verb in ("report", "grade"):
        result = invoked(tmp_path, text, verb)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
        assert "cannot be written: Read-only file system" in result.output


def test_a_file_whose_name_is_no_text_is_named_all_the_same(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\x1b[2J.yaml"
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator", "plan", name],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 2
    assert b"\x1b" not in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_a_folder_for_rays_sockets_with_too_long_a_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'x' * 108}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    text = f"name: x\nstore: {tmp_path}/runs\ntracking: sqlite:///{tmp_path}/mlflow.db\n"
    text += "steps: {a: {job: letters, train: 1}}"
    (tmp_path / "experiment.yaml").write_text(text)
    result = CliRunner().invoke(main, ["run", str(tmp_path / "experiment.yaml")])
    assert result.exit_code == 2, result.output
    assert result.output.splitlines()[-1].startswith("RAY_TMPDIR: "), result.output


def test_everything_that_is_wrong_is_still_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(HEAD + json.dumps({**SWEEP, "model": "/none", "samples": 0, "seed": -1}))
    with pytest.raises(ExperimentError) as refusal:
        load(tmp_path / "experiment.yaml")
    assert len(refusal.value.complaints) == 2
