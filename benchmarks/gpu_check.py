"""What only a GPU can tell, in one program: a quarter of an hour on one H100.

    python benchmarks/gpu_check.py [--model DIR] [--parts a,b,c,d] [--limits b=300] [--json gpu_check.json]

    a   the transformers engine: the tree against the policies one by one, in float32 and in bf16
    b   vLLM: it starts, masks, keeps to seeds, loses its core and the core's memory; tree and policies; one pass
    c   FSDP2: time, MFU and peak memory of steps against the plan; checkpoints while it trains; resuming; export
    d   out of memory, as the failure that a run would tell of

Each part runs the project's own code in a process of its own, which is ended at the part's limit. The JSON file has the
figures after each part, those of a part that was ended too. What the machine lacks (a GPU, vLLM, Ray) is left out and
named. Needed are torch 2.11 or newer, transformers, pydantic, pyyaml, psutil, pyarrow and rich. Without a GPU it all
runs on CPUs at tiny size, which shows that it runs and nothing else. DIR is a model in Hugging Face's layout with its
tokenizer; without one, the model has random weights.

Exit status: 0 when every part that could be run did, 1 when one failed or ran out of time.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # a bare machine has the checkout, and nothing installed from it


@dataclass(frozen=True)
class Part:
    """One part of the check."""

    title: str
    module: str
    """Of ``benchmarks/``, with a function of the part's letter: ``part_a(where, record)``."""
    seconds: float
    """Its limit."""
    needs: tuple[str, ...] = ()
    """Packages without which there is nothing to do."""


PARTS: Mapping[str, Part] = {
    "a": Part("transformers: tree and policies", "gpu_decoding", 180),
    "b": Part("vLLM", "gpu_decoding", 300, ("vllm",)),
    "c": Part("FSDP2", "gpu_training", 300),
    "d": Part("out of memory", "gpu_training", 60),
}


@dataclass(frozen=True)
class Where:
    """What a part runs on."""

    device: str
    """``cuda`` or ``cpu``."""
    tiny: bool
    model: str | None
    """A folder; None for random weights."""
    scratch: Path
    """Empty, and removed afterwards."""


class Record:
    """A part's figures, in a file as soon as they are known."""

    def __init__(self, file: Path):
        self._file = file
        self._figures: dict[str, Any] = {}
        self._left_out: list[str] = []

    def add(self, **figures: Any) -> None:
        """Takes figures by name."""
        self._figures |= figures
        self._write()
        for name, value in figures.items():
            print(f"  {name:<34} {_shown(value)}", flush=True)

    def leave_out(self, what: str, why: str) -> None:
        """Names what cannot be told here."""
        self._left_out.append(f"{what}: {why}")
        self._write()
        print(f"  {what:<34} left out: {why}", flush=True)

    def _write(self) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({"figures": self._figures, "left_out": self._left_out}))
        partial.replace(self._file)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def run_part(letter: str, where: Where, limit: float) -> dict[str, Any]:
    """Runs a part in a process of its own. Its figures, what was left out, and how it ended."""
    part = PARTS[letter]
    if missing := [name for name in part.needs if importlib.util.find_spec(name) is None]:
        return {"state": "skipped", "why": f"{', '.join(missing)} is not installed", "figures": {}, "left_out": []}
    record = where.scratch / f"{letter}.json"
    command = [sys.executable, str(Path(__file__)), "--part", letter, "--record", str(record)]
    command += ["--device", where.device, *(["--tiny"] if where.tiny else [])]
    command += ["--model", where.model] if where.model else []
    began = time.monotonic()
    process = subprocess.Popen(command)
    try:
        status = process.wait(limit)
        state, why = ("done", "") if status == 0 else ("failed", f"exit status {status}: see what it said")
    except subprocess.TimeoutExpired:
        state, why = "out of time", f"{limit:g} s were not enough: --limits {letter}=… gives it more"
    finally:
        _end(process)
    told = json.loads(record.read_text()) if record.exists() else {"figures": {}, "left_out": []}
    return {"state": state, "why": why, "seconds": time.monotonic() - began, **told}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a part with all that it started; does nothing once it has ended."""
    if process.poll() is None:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in tree:
            one.kill()
        process.wait()
        psutil.wait_procs(tree[1:], timeout=30)


def device_and_title() -> tuple[str, str]:
    """``cuda`` or ``cpu``, and what is there in words: torch's version and the card's name."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # a context of this process would take memory
    import torch

    if not torch.cuda.is_available():
        return "cpu", f"torch {torch.__version__}, no GPU"
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return "cuda", f"torch {torch.__version__}, {card}"


def _limits(text: str) -> dict[str, float]:
    pairs = (each.partition("=") for each in text.split(",") if each)
    return {letter: float(seconds) for letter, _, seconds in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--limits", type=_limits, default={}, metavar="b=300,c=120", help="seconds of parts")
    parser.add_argument("--model", help="a folder in Hugging Face's layout, for a and b; else random weights")
    parser.add_argument("--tiny", action="store_true", help="on a GPU too: as small as can be")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="else the GPU, where there is one")
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"), metavar="FILE")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        with tempfile.TemporaryDirectory(dir=options.record.parent) as scratch:
            where = Where(options.device, options.tiny, options.model, Path(scratch))
            _do(options.part, where, Record(options.record))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a part ends with this process
    letters = options.parts.split(",")
    if unknown := [letter for letter in (*letters, *options.limits) if letter not in PARTS]:
        parser.error(f"there is no part {', '.join(unknown)}: take {', '.join(PARTS)}")
    found, title = device_and_title()
    device = options.device or found
    tiny = options.tiny or device == "cpu"
    print(f"{title}{', on CPUs at tiny size: this shows that it runs, and no more' * (device == 'cpu')}", flush=True)
    results: dict[str, Any] = {"machine": title, "device": device, "tiny": tiny, "model": options.model, "parts": {}}
    for letter in letters:
        print(f"{letter}: {PARTS[letter].title}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"gpu-check-{letter}-") as scratch:
            where = Where(device, tiny, options.model, Path(scratch))
            told = run_part(letter, where, options.limits.get(letter, PARTS[letter].seconds))
        results["parts"][letter] = told
        options.json.write_text(json.dumps(results, indent=1))
        print(f"{letter}: {', '.join(filter(None, (told['state'], told['why'])))}", flush=True)
    if any(told["state"] in ("failed", "out of time") for told in results["parts"].values()):
        raise SystemExit(1)


def _do(letter: str, where: Where, record: Record) -> None:
    """A part, in this process, which it may leave in any state."""
    sys.excepthook = _end_at_once
    getattr(importlib.import_module(PARTS[letter].module), f"part_{letter}")(where, record)


def _end_at_once(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Threads of a library that is in no state to end must not keep the process."""
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
