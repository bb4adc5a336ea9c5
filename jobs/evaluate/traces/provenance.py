"""What decoded a trace, as far as its tokens may depend on it: the engine and its version, the type of its numbers, the
card, and over how many cards the model was split.

None of it is part of what a sweep is: traces decoded on an H100 are continued on an A100. In exact arithmetic they
would be the same; in bfloat16 another kernel, or another order of a sum, now and then turns a token. So each
trace says what decoded it, and results that rest on several kinds say so.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from jobs.evaluate.engines.protocol import EngineSpec
from jobs.evaluate.engines.registry import ENGINES

try:
    import pynvml
except ImportError:  # Comes with vLLM's CUDA build; machines without GPUs have no use for it.
    pynvml = None

DecodingKind = Mapping[str, object]


def decoded_by(engine: EngineSpec) -> str:
    """The kind that `engine` is on this machine, as JSON. To be called where it runs."""
    if engine.served is not None:
        return json.dumps({"engine": engine.name, "served_model": engine.served.name})
    record = ENGINES[engine.name]
    kind: DecodingKind = {
        "engine": engine.name,
        "version": _version(record.library),
        "torch": _version("torch"),
        "dtype": engine.dtype,
        "card": _card() if engine.gpus else _processor(),
        "tensor_parallel_size": max(1, engine.gpus) if record.splits else 1,
    }
    return json.dumps(kind)


def read_kinds(decode: Mapping[str, object]) -> list[DecodingKind]:
    """From ``decode.json``; nothing where they were not kept."""
    kinds = decode.get("decoded_by", [])
    assert isinstance(kinds, list)
    return kinds


def mixed(kinds: Sequence[DecodingKind]) -> str:
    """What is to be said of results that rest on several kinds; nothing of one."""
    if len(kinds) < 2:
        return ""
    names = dict.fromkeys(name for kind in kinds for name in kind)
    values = {name: list(dict.fromkeys(str(kind.get(name, "not kept")) for kind in kinds)) for name in names}
    differ = "; ".join(f"{name} {', '.join(several)}" for name, several in values.items() if len(several) > 1)
    return f"Mixed: these traces were decoded in {len(kinds)} ways, which may differ in single tokens: {differ}."


def _version(library: str) -> str:
    """As the library itself says it: its builds for CPUs and for CUDA are packages of different names."""
    return str(import_module(library).__version__)


def _card() -> str:
    """The first GPU that this process may use."""
    if pynvml is None:
        return "unknown GPU"
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip()
    try:
        pynvml.nvmlInit()
        by_number = first.isdecimal()
        card = pynvml.nvmlDeviceGetHandleByIndex(int(first)) if by_number else pynvml.nvmlDeviceGetHandleByUUID(first)
        return str(pynvml.nvmlDeviceGetName(card))
    except pynvml.NVMLError:
        return "unknown GPU"


def _processor() -> str:
    """The model of this machine's CPUs, whose instructions decide how sums are ordered."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
