"""Experiments that no author meant: every one is understood or refused, in lines that say where, within two seconds.

5,000 mutations of the shipped experiments, a third each of their bytes, of their YAML's structure, and of their values
(from a dictionary of nasty ones), are checked and planned in this process; what is accepted is estimated and shown as
``plan`` and ``status`` show it. 50 more go through the command line. Seconds are the process's own, so a busy machine
changes nothing.

    pytest tests/faults/test_experiment_fuzz.py -s    # prints the counts
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from orchestrator.complaints import LONGEST_MESSAGE, SHOWN, ExperimentError
from orchestrator.display import PlainConsole
from orchestrator.estimate_view import show
from orchestrator.experiment import load
from orchestrator.plan import estimates, plan
from orchestrator.progress import table
from orchestrator.store.step_folders import Store
from tests.conftest import ROOT

MUTATIONS = 5_000
COMMANDS = 50
LIMIT = 2.0
"""Seconds."""

SHIPPED = [path.read_text() for path in sorted((ROOT / "experiments").rglob("*.yaml"))]

NASTY: tuple[Any, ...] = (
    *(0, -1, 1, 2, 255, 256, 1000, 10_000, 10**6, 2**31 - 1, 2**31, 2**53 - 1, 2**53 + 1, 2**63, 10**400, -(10**400)),
    *(0.0, -0.0, 0.5, 1e-300, 1e300, 1.7e308, float("inf"), float("-inf"), float("nan")),
    *(True, False, None, "", " ", "\n", "\t", "a\0b", "\ud800", "\u202e", "\x1b[31m", "\x1b]0;title\x07", "é" * 300),
    *(
        "[red]",
        "[/THINK]",
        ":smile:",
        "[link=http://x]",
        "`",
        "|",
        "<b>",
        "*",
        "%s",
        "{}",
        "{0}",
        "${",
        "${}",
        "}",
        "$",
    ),
    *("${letters}", "${tiny}", "${sweep}", "${s1}", "${nowhere}", "${a b}", "none", "auto", "null", "yes", "no", "~"),
    *(
        "/",
        "/proc/self/mem",
        "/dev/zero",
        "/dev/null",
        "/dev/stdin",
        "/proc",
        "/etc/passwd",
        "/etc",
        "~nobody/x",
        "~x/y",
    ),
    *(
        "x" * 256,
        "a/" + "x" * 256,
        "/" + "a/" * 3000,
        "x" * 100_000,
        "../..",
        "./.",
        "file:///etc",
        "s3://",
        "s3://b/k",
    ),
    *("memory://x", "http://x", "http://user:secret@x/v1", "sqlite:///", "sqlite:////dev/null", "postgresql://u:p@h/d"),
    *([], {}, [[]], [{}], {"": ""}, {"a": {"b": {"c": {}}}}, [0] * 2000, list(range(1, 20_001)), ["x"] * 5000),
    *({"random": "qwen2"}, {"random": "qwen2", "layers": 10**9, "hidden_size": 64}, {"min": 10**9, "max": 10**9}),
    *({"path": "/dev/zero"}, {"name": "mine", "path": "/etc/passwd"}, {"tokens": list(range(1, 900))}, [1, [2, [3]]]),
    *(
        {"strings": [f"s{n}" for n in range(900)], "counts": list(range(1, 900))},
        {"strings": ["Wait"], "counts": [10**6]},
    ),
)

INSERTED = (
    "${",
    "}",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "\n",
    "\t",
    "'",
    '"',
    "&a ",
    "*a",
    "<<: *a",
    "? ",
    "!!python/x ",
    "|",
)

Mutate = Callable[[random.Random, str], bytes]


def bytes_changed(rng: random.Random, text: str) -> bytes:
    """One to eight edits that know nothing of YAML."""
    content = bytearray(text.encode())
    for _ in range(rng.randint(1, 8)):
        at, to = sorted(rng.choices(range(len(content) + 1), k=2))
        match rng.randrange(6):
            case 0:
                del content[at : min(to, at + 40)]
            case 1:
                content[at:at] = rng.choice(INSERTED).encode()
            case 2:
                content[at:at] = bytes(rng.choices(range(256), k=rng.randint(1, 4)))
            case 3:
                content[at:at] = content[at : min(to, at + 200)] * rng.choice([1, 1, 2, 50])
            case 4:
                content = content[:at] + content[to:] + content[at:to]
            case 5:
                content[at:at] = rng.choice([b"[", b"{a: ", b"- ", b"a: &a\n"]) * rng.choice([10, 1000, 100_000])
    return bytes(content[:1_000_000])


def structure_changed(rng: random.Random, text: str) -> bytes:
    """Values moved to where others are, wrapped, doubled, repeated thousands of times, keys renamed or lost."""
    with deep_documents():
        return json.dumps(restructured(rng, yaml.safe_load(text)), ensure_ascii=rng.random() < 0.5).encode(
            errors="surrogatepass"
        )[:1_000_000]


def restructured(rng: random.Random, document: Any) -> Any:
    for _ in range(rng.randint(1, 4)):
        holder, key = rng.choice(places(document))
        match rng.randrange(7):
            case 0:
                del holder[key]
            case 1:
                other, at = rng.choice(places(document) or [(holder, key)])
                holder[key] = copy.deepcopy(other[at]) if other is not holder or at != key else None
            case 2:
                holder[key] = [holder[key]]
            case 3:
                for _ in range(rng.choice([3, 70, 300])):
                    holder[key] = rng.choice([[holder[key]], {"a": holder[key]}])
            case 4 if isinstance(holder, dict):
                holder[rng.choice([f"{key}x", key[:-1], "job", "model", "", "x" * 1000, "\x1b[2J"])] = holder.pop(key)
            case 5 if isinstance(holder, list):
                holder.extend([copy.deepcopy(holder[key])] * rng.choice([1, 1, 10, 300]))
            case _ if isinstance(document.get("steps"), dict) and document["steps"]:
                name = rng.choice(list(document["steps"]))
                for number in range(rng.choice([1, 1, 10, 100])):
                    document["steps"][f"{name}{number}"] = copy.deepcopy(document["steps"][name])
        if not places(document):
            break
    return document


@contextmanager
def deep_documents() -> Iterator[None]:
    """Lets this file copy and write what is nested deeper than Python's limit; what reads it has the usual one."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def values_changed(rng: random.Random, text: str) -> bytes:
    """One to four values replaced by nasty ones, some at keys that the file did not have."""
    document = yaml.safe_load(text)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        holder, key = rng.choice(places(document))
        if isinstance(holder, dict) and rng.random() < 0.4:
            key = rng.choice(KEYS)
        holder[key] = copy.deepcopy(rng.choice(NASTY))
    return json.dumps(document).encode()


KEYS = [
    *(
        "model",
        "data",
        "tasks",
        "budgets",
        "extensions",
        "step_budgets",
        "baseline",
        "conditional",
        "rejection",
        "efforts",
    ),
    *(
        "template",
        "samples",
        "at_k",
        "temperature",
        "top_p",
        "seed",
        "max_answer_tokens",
        "context_length",
        "engine",
    ),
    *(
        "served_model",
        "chat",
        "dtype",
        "batch_invariant",
        "published",
        "judge",
        "resources",
        "packing",
        "strategy",
        "lora",
    ),
    *(
        "precision",
        "evaluation",
        "epochs",
        "batch_size",
        "block_size",
        "learning_rate",
        "warmup",
        "weight_decay",
        "betas",
    ),
    *(
        "train",
        "test",
        "gpus",
        "cpus",
        "workers",
        "replicas",
        "timeout",
        "wait",
        "machine",
        "retries",
        "in_flight",
        "mfu",
    ),
    *("path", "type", "prompt", "items", "name", "description", "store", "tracking", "max_cost", "steps", "deepspeed"),
    *("tokens_in_memory", "shard_group", "min_workers", "checkpoints", "expected_thinking_tokens", "server", "config"),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) within a value."""
    found: list[tuple[Any, Any]] = []
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        found += places(value[key])
    return found


def answered(file: Path, out: Console) -> str:
    """``accepted`` or ``refused``; raises whatever the checks let through."""
    try:
        experiment = load(file)
    except ExperimentError as error:
        lines = str(error).splitlines()
        assert 0 < len(lines) <= SHOWN + 1, lines
        assert all(line.startswith(f"{file}:") for line in lines), lines
        assert all(len(line) <= len(str(file)) + LONGEST_MESSAGE + 10 for line in lines)
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for line in lines for letter in line), lines
        return "refused"
    store = Store(file.parent / "store")
    planned = plan(experiment, store)
    for item in planned:
        item.step.config.describe()
        item.step.config.demands()
    for name, estimate in estimates(planned, 50).items():
        show(name, estimate, out)
    if len(planned) <= 200:
        out.print(table(experiment, planned))
    return "accepted"


@pytest.mark.parametrize("mutate", [bytes_changed, structure_changed, values_changed], ids=lambda each: each.__name__)
def test_no_experiment_ends_in_a_traceback_or_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutate: Mutate
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    rng, file = random.Random(mutate.__name__), tmp_path / "experiment.yaml"
    out = PlainConsole(file=(tmp_path / "out").open("w"), width=120)
    counts: Counter[str] = Counter()
    slowest, wrong = 0.0, []
    for number in range(MUTATIONS // 3 + 1):
        content = mutate(rng, rng.choice(SHIPPED))
        file.write_bytes(content)
        began = time.process_time()
        try:
            counts[answered(file, out)] += 1
        except Exception:  # noqa: BLE001  what it is, is the finding
            wrong.append(f"{number}: {traceback.format_exc()[-1500:]}")
            counts["traceback"] += 1
            kept = tmp_path / f"wrong-{number}.yaml"
            kept.write_bytes(content)
        took = time.process_time() - began
        slowest = max(slowest, took)
        if took > LIMIT:
            wrong.append(f"{number}: took {took:.1f} s")
            (tmp_path / f"slow-{number}.yaml").write_bytes(content)
    print(f"\n{mutate.__name__}: {dict(counts)}, the slowest in {slowest:.2f} s")
    assert not wrong, "\n\n".join([f"{len(wrong)} of {sum(counts.values())}", *wrong[:5]])
    assert counts["refused"] > 100


def test_the_command_line_says_the_same(tmp_path: Path) -> None:
    """Exit status 0 or 2, nothing but lines about the file on standard error, whatever verb meets it."""
    rng, counts = random.Random(0), Counter[str]()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for number in range(COMMANDS):
        mutate = rng.choice([bytes_changed, structure_changed, values_changed])
        file = tmp_path / f"experiment-{number}.yaml"
        file.write_bytes(mutate(rng, rng.choice(SHIPPED)))
        verb = rng.choice(["plan", "status", "report", "cancel", "look", "gc"])
        ran = subprocess.run(
            [sys.executable, "-m", "orchestrator", verb, str(file)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        said = ran.stderr.decode()
        assert ran.returncode in ((0, 1, 2) if verb == "report" else (0, 2)), (verb, file, said)
        assert "Traceback" not in said, (verb, file, said)
        counts[f"{verb} {ran.returncode}"] += 1
    print(f"\n{dict(counts)}")
