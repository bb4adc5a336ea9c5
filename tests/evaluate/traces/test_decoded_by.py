"""What decoded a trace is kept, and results that rest on several kinds say so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import vllm

from jobs.evaluate.engines.protocol import EngineSpec, ServedModel
from jobs.evaluate.engines.server import Server
from jobs.evaluate.publish import publish
from jobs.evaluate.traces import provenance
from jobs.evaluate.traces.provenance import decoded_by, mixed
from tests.evaluate.simulated import context, simulate
from tests.evaluate.test_publish import config

SPEC = EngineSpec("vllm", "m", None, "bfloat16", 512, 100, gpus=0, cpus=1)
H100 = {"engine": "vllm", "version": "0.32.0", "dtype": "bfloat16", "card": "NVIDIA H100", "tensor_parallel_size": 2}


def test_an_engine_says_what_its_tokens_may_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = json.loads(decoded_by(SPEC))
    assert (kind["engine"], kind["version"], kind["dtype"]) == ("vllm", vllm.__version__, "bfloat16")
    assert kind["card"]

    names = {0: "NVIDIA H100", 3: "NVIDIA A100", "GPU-5a": "NVIDIA L4"}
    cards = SimpleNamespace(
        NVMLError=KeyError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetName=names.__getitem__,
    )
    monkeypatch.setattr(provenance, "pynvml", cards)
    for visible, name in (("3,0", "NVIDIA A100"), ("GPU-5a", "NVIDIA L4"), ("7", "unknown GPU")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        kind = json.loads(decoded_by(replace(SPEC, gpus=2)))
        assert (kind["card"], kind["tensor_parallel_size"]) == (name, 2)

    served = ServedModel("s1", 100, Server(url="http://10.0.0.7:8000/v1"))
    assert json.loads(decoded_by(replace(SPEC, name="openai", served=served))) == {
        "engine": "openai",
        "served_model": "s1",
    }


def test_what_is_mixed_is_said_and_how() -> None:
    assert mixed([]) == mixed([H100]) == ""
    said = mixed([H100, H100 | {"card": "NVIDIA A100", "tensor_parallel_size": 4}])
    assert said == (
        "Mixed: these traces were decoded in 2 ways, which may differ in single tokens: "
        "card NVIDIA H100, NVIDIA A100; tensor_parallel_size 2, 4."
    )


@pytest.mark.seconds
def test_a_table_of_mixed_traces_says_so(tmp_path: Path) -> None:
    simulate().to_parquet(tmp_path / "samples.parquet")
    step = context(tmp_path)
    other = H100 | {"version": "0.33.0"}
    for kinds, says in (([H100, other], True), ([H100], False)):
        publish(config(), step, tmp_path / "samples.parquet", {"seconds": 12.5, "units": 200, "decoded_by": kinds})
        table = (step.output / "table.md").read_text()
        assert ("in 2 ways, which may differ in single tokens: version 0.32.0, 0.33.0." in table) is says
