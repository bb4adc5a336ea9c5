"""A user's own files: found once, whatever folder a process works in; read to their end before anything costs."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from jobs.finetune.deepspeed_config import deepspeed_settings
from jobs.finetune.prepare import model_source
from jobs.finetune.samples import read_samples
from orchestrator import hub
from orchestrator.__main__ import main
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import Experiment, load
from orchestrator.job.config import HubName
from orchestrator.job.context import StepContext
from orchestrator.plan import plan
from orchestrator.store.step_folders import Store

ITEM = '{"id": "%d", "question": "1 + 1?", "answer": "2"}\n'
SAMPLE = '{"question": "1 + 1?", "trace": "two", "answer": "2"}\n'
TEXT = """
name: x
steps:
  tiny: {job: finetune, model: ./model, data: data.jsonl, strategy: deepspeed,
    resources: {deepspeed: {config: ds.json}}}
  sweep: {job: evaluate, model: model/../model, tasks: [{name: mine, path: items.jsonl}]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    (tmp_path / "data.jsonl").write_text(SAMPLE * 20)
    (tmp_path / "items.jsonl").write_text("".join(ITEM % number for number in range(20)))
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2}}')
    (tmp_path / "x.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprints(experiment: Experiment) -> list[str]:
    return [step.fingerprint for step in plan(experiment, Store(Path("/nowhere")))]


def test_every_path_is_found_from_any_folder_by_any_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(Path("x.yaml"))
    before = fingerprints(experiment)
    tiny, sweep = pickle.loads(pickle.dumps([step.config for step in experiment.steps.values()]))
    monkeypatch.chdir("/")
    context = StepContext("x", "tiny", "0" * 16, folder / "step", folder / "traces")
    assert model_source(tiny, context) == str(folder / "model")
    assert len(list(read_samples(tiny.data.located(lambda reference: folder)))) == 20
    assert deepspeed_settings(tiny)["zero_optimization"]["stage"] == 2
    assert Path(str(sweep.model_folder)).samefile(folder / "model")
    assert sweep.tasks[0].known_items() == 20
    assert fingerprints(experiment) == before


def test_what_a_step_is_has_paths_as_they_were_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = fingerprints(load(Path("x.yaml")))
    copied = folder / "elsewhere"
    copied.mkdir()
    for name in ("model", "data.jsonl", "items.jsonl", "ds.json", "x.yaml"):
        (folder / name).rename(copied / name)
    monkeypatch.chdir(copied)
    assert fingerprints(load(Path("x.yaml"))) == here
    config = load(Path("x.yaml")).steps["tiny"].config.model_dump(mode="json")
    assert (config["model"], config["data"]["path"]) == ("./model", "data.jsonl")


@pytest.mark.parametrize("name", ["items.jsonl", "data.jsonl"])
@pytest.mark.parametrize(
    "line", ["not JSON", "[1]", "{}", "[" * 3000, '{"id": "0", "question": "\\ud800", "answer": "1"}', "1" * 5000]
)
def test_a_bad_row_is_named_by_file_and_line_before_anything_starts(folder: Path, name: str, line: str) -> None:
    rows = (folder / name).read_text().splitlines()
    rows[13] = line
    (folder / name).write_text("\n".join(rows))
    result = CliRunner().invoke(main, ["plan", "x.yaml"])
    assert result.exit_code == 2, result.output
    assert f" {name}:14" in result.output, result.output
    assert len(result.output.splitlines()) == 1
    load(Path("x.yaml"), contents=False)


def test_a_repeated_id_in_the_last_row_is_named_with_the_first(folder: Path) -> None:
    with (folder / "items.jsonl").open("a") as file:
        file.write(ITEM % 3)
    with pytest.raises(ExperimentError, match=r"items.jsonl:21: id '3' is that of line 4: make each id unique"):
        load(Path("x.yaml"))


def test_etc_passwd_is_no_task(folder: Path) -> None:
    (folder / "x.yaml").write_text(TEXT.replace("items.jsonl", "/etc/passwd"))
    with pytest.raises(ExperimentError, match=r"/etc/passwd:1: not JSON"):
        load(Path("x.yaml"))


def test_parquet_and_folders_of_data_are_read_to_their_end(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [json.loads(SAMPLE)] * 20 + [{**json.loads(SAMPLE), "trace": " "}]
    (folder / "set").mkdir()
    for path in ("bad.parquet", "set/train.parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), folder / path)
    for name, said in (
        ("bad.parquet", "bad.parquet row 21 has an empty trace"),
        ("./set", "set row 21 has an empty trace"),
    ):
        (folder / "x.yaml").write_text(TEXT.replace("data.jsonl", name))
        with pytest.raises(ExperimentError, match=said):
            load(Path("x.yaml"))


class _Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(404 if "nowhere" in self.path else 200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A hub on this machine; the paths that it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.asked = []
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_names_that_the_hub_has_not_are_refused_with_their_lines(folder: Path, asked: list[str]) -> None:
    text = TEXT.replace("model/../model", "me/there").replace("./model", "me/nowhere")
    (folder / "x.yaml").write_text(text.replace("data.jsonl", "{dataset: us/traces, revision: nowhere}"))
    result = CliRunner().invoke(main, ["plan", "x.yaml"])
    assert result.exit_code == 2, result.output
    assert len(result.output.splitlines()) == 2, result.output
    first, second = sorted(result.output.splitlines())
    assert first.startswith("x.yaml:4: steps.tiny.data: 'us/traces' at nowhere is not a dataset on Hugging Face's hub")
    assert second.startswith("x.yaml:4: steps.tiny.model: 'me/nowhere' is not a model on Hugging Face's hub")
    assert sorted(asked) == [
        "/api/datasets/us/traces/revision/nowhere",
        "/api/models/me/nowhere",
        "/api/models/me/there",
    ]
    assert CliRunner().invoke(main, ["status", "x.yaml"]).exit_code == 0


def test_a_hub_that_is_not_to_be_asked_or_does_not_answer_says_nothing(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [HubName(("model",), "model", "me/nowhere")]
    (tmp_path / "cache" / "models--me--nowhere").mkdir(parents=True)
    assert hub.missing(names) == []
    (tmp_path / "cache" / "models--me--nowhere").rmdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.missing(names) == []
    assert asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert hub.missing(names) == []
