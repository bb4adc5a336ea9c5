"""What ``plan`` says of a sweep before it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster import catalogue
from cluster.catalogue import machine
from jobs.architecture import find
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.registry import ENGINES
from jobs.evaluate.planning.estimate import estimate as sweep_estimate
from jobs.evaluate.planning.roofline import PlannedReplica, taken
from jobs.evaluate.planning.workload import Tokens, Workload
from orchestrator.estimate_view import lines
from orchestrator.experiment import load
from orchestrator.job.config import Upcoming
from orchestrator.job.estimate import Estimate
from orchestrator.plan import estimates, plan
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import Store

ROOT = Path(__file__).parents[3]
S1 = {
    "model": "simplescaling/s1-32B",
    "tasks": ["aime24", "math500", "gpqa_diamond"],
    "budgets": [500, 1000, 2000, 4000, 8000, 16000, "auto"],
    "extensions": {"strings": ["Wait"], "counts": [1, 2, 4, 6]},
}
H100S = {"gpus": 2, "machine": "p5.48xlarge", "replicas": {"max": 8}}
VLLM = ENGINES["vllm"].on_gpus
assert VLLM is not None
REPLICA = PlannedReplica(find("simplescaling/s1-32B"), machine("h100").card, 2, 2, VLLM)


def estimate(resources: dict[str, object], **fields: object) -> Estimate:
    return sweep_estimate(EvaluateConfig.model_validate_json(json.dumps(S1 | {"resources": resources} | fields)), {})


def test_a_sweep_has_time_hours_and_cost_as_a_whole_and_by_policy() -> None:
    told = estimate(H100S)
    assert told.seconds is not None
    assert told.device_hours is not None
    assert told.usd is not None
    assert told.verdict == "fits"
    assert [part.name for part in told.parts][-2:] == ['4x"Wait"', '6x"Wait"']
    assert sum(part.share for part in told.parts) == pytest.approx(1)
    alone = [part.usd for part in told.parts if part.usd is not None]
    assert len(alone) == len(told.parts)
    assert max(alone) < told.usd < sum(alone)
    assert any("times as many" in line for line in lines(told))
    assert any("aime24: 30 items, thinking 6,109 tokens in the mean (the s1 paper)" in line for line in lines(told))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"layer_types": ["linear_attention", "full_attention"]}, "has layers that keep a state in place of keys and"),
        ({"vision_config": {}, "text_config": {}}, "imports torchvision, which the list for CPUs has not: install"),
        ({}, "sampling: recommended is temperature 0.6, top_p 0.95, top_k 20"),
    ],
)
def test_what_a_checkpoint_says_of_itself_is_said(tmp_path: Path, config: dict[str, object], expected: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "strange", **config}))
    said = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(said))
    fields = {"model": str(tmp_path), "engine": "vllm", "sampling": "recommended"}
    unknown = [{"name": "x", "dataset": "a/b", "revision": "c" * 40, "split": "test", "type": "math"}]
    for told in (estimate({}, **fields), estimate({}, **fields, tasks=unknown)):
        assert [expected in line for line in told.remarks].count(True) == 1
    plain = estimate({}, model="org/strange", engine="vllm", temperature=0.5)
    assert not any(expected in line for line in plain.remarks)


def test_the_most_is_said_and_is_more() -> None:
    told = estimate(H100S)
    assert told.seconds is not None
    assert told.most_seconds is not None
    assert told.usd is not None
    assert told.most_usd is not None
    assert told.most_seconds > told.seconds
    assert told.most_usd > told.usd
    assert any("if all of it runs to its largest budget" in line for line in lines(told))


def test_expected_thinking_is_the_experiments_where_it_gives_it() -> None:
    short, long = (estimate(H100S | {"expected_thinking_tokens": tokens}) for tokens in (1000, 8000))
    assert short.usd is not None
    assert long.usd is not None
    assert short.usd < long.usd
    assert short.most_usd == long.most_usd
    assert any(
        "thinking 1,000 tokens in the mean (resources.expected_thinking_tokens)" in line for line in lines(short)
    )


def test_a_model_that_does_not_fit_its_cards_is_told_how_many_it_needs() -> None:
    told = estimate({"gpus": 1, "machine": "a100-40gb"})
    assert told.verdict == "does not fit"
    assert told.remedies == ("resources.gpus: 4",)
    assert told.seconds is None
    assert estimate({"gpus": 4, "machine": "a100-40gb"}).verdict != "does not fit"


def test_a_step_of_decoding_takes_what_reading_weights_and_cache_takes() -> None:
    bandwidth = 2 * 3350e9 * 0.6
    assert REPLICA.step(1, 0) == pytest.approx(2 * 32_763_876_352 / bandwidth)
    # Keys and values: 64 layers of 8 heads of 128 numbers, twice, of 2 bytes.
    more = REPLICA.step(30, 4000) - REPLICA.step(1, 0)
    assert more == pytest.approx(30 * 4000 * 2 * 64 * 8 * 128 * 2 / bandwidth)
    assert REPLICA.cache == pytest.approx((2 * (0.9 * 85e9 - 1.5e9) - 2 * 32_763_876_352) / 262_144)
    tiny = replace(REPLICA, model=find("Qwen/Qwen2.5-0.5B"), cards=8)
    assert tiny.step(8, 0) == VLLM.step + 8 * VLLM.sequence


def test_more_replicas_are_faster_until_the_longest_trace_alone_decides() -> None:
    work = Workload({}, Tokens(64 * 8000, 64 * 8000 * 4000), 64, 64 * 8200, {"auto": 30_000})
    one, four, many = (taken(REPLICA, work, 16, replicas) for replicas in (1, 4, 64))
    assert one.seconds > four.seconds
    assert many.replicas == 4
    chain = 30_000 * REPLICA.step(1, 15_000)
    assert four.seconds == pytest.approx(VLLM.start + chain)
    assert one.at_once == 16
    assert taken(REPLICA, work, 128, 1).at_once == int(REPLICA.cache / 8200)


def test_the_most_that_auto_takes_of_a_context_is_said(tmp_path: Path) -> None:
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64}
    config = {"model_type": "qwen2", "vocab_size": 272, "max_position_embeddings": 131_072, **shape}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = "context_length: auto is 32,768 of the model's 131,072 tokens: give a number for more or fewer"
    auto, given, same = (
        estimate(H100S, model=str(tmp_path), context_length=length) for length in ("auto", 131_072, 32_768)
    )
    assert said in lines(auto)
    assert said not in lines(given)
    assert auto.most_seconds is not None
    assert given.most_seconds is not None
    assert auto.most_seconds == same.most_seconds
    assert given.most_seconds > 3 * auto.most_seconds
    unknown = lines(estimate(H100S, model="nobody/knows"))
    assert any(line.startswith("context_length: auto is at most 32,768 tokens: give") for line in unknown)


def test_the_model_that_another_step_will_make_is_known_by_that_step() -> None:
    tiny = {"model": {"random": "qwen2", "layers": 2, "hidden_size": 128, "context": 256}, "data": "${letters}"}
    inputs: dict[str, Upcoming] = {}
    for name, kind, config in (("letters", "letters", {"train": 100, "test": 50}), ("tiny", "finetune", tiny)):
        job = JOBS[kind]
        step = job.config.model_validate_json(json.dumps(config))
        assert job.forecast is not None
        inputs[name] = Upcoming(step, None, job.forecast(step, inputs))
    sweep = {"model": "${tiny}", "tasks": ["${letters}"], "budgets": [4, "auto"]}
    told = sweep_estimate(EvaluateConfig.model_validate_json(json.dumps(sweep)), inputs)
    assert told.device == "core"
    assert told.seconds is not None
    assert any("letters: 50 items, thinking 13 tokens in the mean (the built-in task)" in line for line in lines(told))


@pytest.mark.parametrize("thinking", [None, 100, 100_000])
@pytest.mark.parametrize("answer", [1, 256, 4096])
@pytest.mark.parametrize("samples", [1, 5])
def test_a_model_whose_thinking_is_not_told_apart_decodes_its_answers_and_no_more(
    thinking: int | None, answer: int, samples: int
) -> None:
    resources: dict[str, object] = H100S if thinking is None else H100S | {"expected_thinking_tokens": thinking}
    told = estimate(
        resources,
        tasks=[{"name": "math500", "items": 12}],
        budgets=["auto"],
        extensions=None,
        template="none",
        max_answer_tokens=answer,
        samples=samples,
        temperature=1.0,
    )
    mean = min(answer, thinking or 400)
    assert told.tokens == 12 * samples * mean
    assert [part.tokens for part in told.parts] == [told.tokens]
    assert any("thinking is part of the answer" in line and f"answers {mean:,}" in line for line in lines(told))
    # The most is every answer at its limit.
    assert told.most_seconds is not None
    assert told.seconds is not None
    assert (told.most_seconds == told.seconds) == (mean == answer)


@pytest.mark.parametrize("answer", [1, 256, 4096])
def test_answers_of_models_that_mark_their_thinking_are_within_their_limit_too(answer: int) -> None:
    fields = {"tasks": [{"name": "math500", "items": 12}], "budgets": [500], "extensions": None}
    told = estimate(H100S, **fields, max_answer_tokens=answer)
    assert told.tokens is not None
    assert 12 * min(answer, 400) < told.tokens <= 12 * (500 + min(answer, 400))


SMALL_MODEL = {"model": "Qwen/Qwen2.5-0.5B", "tasks": ["math500"], "dtype": "float32", "context_length": 4096}


def on_this_machine(monkeypatch: pytest.MonkeyPatch, cores: int, gigabytes: float) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(catalogue, "_cores", lambda: cores)
    monkeypatch.setattr(catalogue, "_memory", lambda: gigabytes * 1e9)
    catalogue.this_machine.cache_clear()


@pytest.fixture(autouse=True)
def _machine_is_forgotten() -> Iterator[None]:
    yield
    catalogue.this_machine.cache_clear()


def small(**resources: object) -> Estimate:
    return sweep_estimate(EvaluateConfig.model_validate_json(json.dumps(SMALL_MODEL | {"resources": resources})), {})


def test_on_the_machine_one_sits_at_memory_and_cores_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    on_this_machine(monkeypatch, 2, 24)
    one, two = small(cpus=1), small(cpus=1, replicas={"max": 8})
    assert one.holder == "CPU core of this machine"
    assert one.available == pytest.approx(0.9 * 24e9 - 0.5e9)
    assert one.verdict == "fits"
    # No more replicas run at once than there are cores, and they share the memory.
    assert two.available == pytest.approx(0.9 * 12e9 - 0.5e9)
    assert any("2 cores in 2 replicas" in line for line in lines(two))
    assert one.usd is not None
    assert one.seconds is not None
    assert one.usd == pytest.approx(machine("cpu").usd(1, one.seconds))
    on_this_machine(monkeypatch, 2, 2)
    assert small(cpus=1).verdict == "does not fit"


def test_a_machine_that_is_named_and_a_cluster_are_not_the_machine_one_sits_at(monkeypatch: pytest.MonkeyPatch) -> None:
    on_this_machine(monkeypatch, 2, 24)
    named = small(cpus=1, machine="cpu")
    assert named.available == pytest.approx(0.9 * machine("cpu").card.memory - 0.5e9)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert small(cpus=1).available == named.available


def test_this_machine_is_what_its_kernel_and_its_container_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = catalogue.this_machine()
    assert found.cards == os.cpu_count() or (found.cards < (os.cpu_count() or 1))
    assert found.shared_memory is not None
    assert found.shared_memory <= psutil.virtual_memory().total
    monkeypatch.setattr(catalogue, "_CONTROL_GROUP", tmp_path)
    catalogue.this_machine.cache_clear()
    assert catalogue.this_machine().shared_memory == psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    catalogue.this_machine.cache_clear()
    held = catalogue.this_machine()
    assert (held.cards, held.shared_memory) == (1, 1e9)
    assert held.price == machine("cpu").price
    assert held.usd(1, 3600) == pytest.approx(machine("cpu").usd(1, 3600))


@pytest.mark.parametrize(
    ("fields", "holder"),
    [
        ({"model": "someone/unheard-of"}, "time and cost of someone/unheard-of are not known before launch: "),
        (
            {"engine": "openai", "served_model": "s1", "resources": {"server": {"url": "http://127.0.0.1:1/v1"}}},
            "decoded on a server",
        ),
    ],
)
def test_where_time_cannot_be_told_tokens_are(fields: dict[str, object], holder: str) -> None:
    told = sweep_estimate(EvaluateConfig.model_validate_json(json.dumps(S1 | fields)), {})
    assert told.holder.startswith(holder)
    assert told.seconds is None
    assert [part.usd for part in told.parts] == [None] * len(told.parts)
    assert sum(part.tokens for part in told.parts) > 1e6


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_is_estimated(file: Path, tmp_path: Path) -> None:
    experiment = load(file)
    planned = plan(experiment, Store(tmp_path / "runs"))
    told = estimates(planned)
    assert {item.step.name for item in planned if item.step.kind == "evaluate"} <= set(told)
    for estimate in told.values():
        assert lines(estimate) or estimate.holder


def test_a_plan_with_estimates_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestrator.__main__ import main;"
        "result = CliRunner().invoke(main, ['plan', 'experiments/s1/scaling.yaml']);"
        "assert 'times as many' in result.output, result.output;"
        "heavy = {'torch', 'ray', 'numpy', 'pyarrow', 'transformers', 'mlflow'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
