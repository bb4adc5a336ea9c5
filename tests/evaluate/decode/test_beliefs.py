"""How sure a model was: what engines say of it, that it is kept with every token, and what rules make of it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.protocol import LIKELIEST, Belief, Chunk, Engine, EngineSpec, Request, start
from jobs.evaluate.engines.sampling import beliefs
from jobs.evaluate.run import missing, prepare
from jobs.evaluate.stopping.replay import PROBES
from jobs.evaluate.stopping.signals import MEASURES
from jobs.evaluate.traces.files import Index, read_confidences
from jobs.evaluate.traces.segments import TRUNK
from orchestrator.job.context import StepContext
from tests.evaluate.spoken import Speaker, conclude, walk_all
from tests.evaluate.stopping.test_replay import ANSWERS, THOUGHTS, fields
from tests.evaluate.test_config import config

ASKED = [
    {"rule": "logprob", "threshold": 0.5, "every": 4, "until": 24},
    {"rule": "entropy", "threshold": 0.5, "every": 4, "until": 24},
    {"rule": "deepconf", "keep": 0.5, "by": ["lowest", "tail"]},
]


class Sure(Speaker):
    """Says of each token how sure it was: by its place in the piece, whatever comes before."""

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        async for tokens, end, *_ in super().stream(request):
            assert request.beliefs
            places = range(request.position, request.position + len(tokens))
            yield Chunk(tokens, end, [Belief(-0.1 * (at + 1), at + 1.0, 0.25 * (at + 1)) for at in places])


def swept(folder: Path, engine: Engine, **changes: object) -> tuple[StepContext, EvaluateConfig]:
    context = StepContext("experiment", "sweep", "0" * 16, folder / "step", folder / "traces")
    made = EvaluateConfig.model_validate_json(json.dumps(fields(folder, **changes)))
    sweep = prepare(made, context)
    asyncio.run(walk_all(sweep, engine))
    conclude(made, context, sweep)
    return context, made


@pytest.mark.seconds
def test_what_is_kept_is_what_the_engine_said(tmp_path: Path) -> None:
    context, made = swept(tmp_path, Sure(THOUGHTS, ANSWERS), confidence=True, stopping=ASKED)
    sweep = prepare(made, context)
    index = Index(sweep.folder, report=print)
    for unit in sweep.units:
        rows = sorted(
            (row for row in index.unit(unit.item, unit.sample).rows if row.key == TRUNK), key=lambda row: row.start
        )
        kept = [each for part in read_confidences(index.places(rows)) for each in part]
        assert kept == [at + 1.0 for at in range(sum(row.length for row in rows))]
    probes = pd.read_parquet(context.output / PROBES)
    for _, probe in probes.iterrows():
        length = probe["answer_tokens"]
        assert probe["logprob"] == pytest.approx(-0.1 * (length + 1) / 2)
        assert probe["entropy"] == pytest.approx(0.25)
        assert probe["confidence_lowest"] == pytest.approx((probe["thinking_tokens"] + 1) / 2)
        assert probe["confidence_tail"] == probe["confidence_lowest"], "all of it is one stretch"


@pytest.mark.seconds
def test_a_sweep_without_it_keeps_its_traces_and_shares_none_with_those_that_have_it(tmp_path: Path) -> None:
    def folder(**changes: object) -> tuple[Path, int]:
        context = StepContext("experiment", "sweep", "0" * 16, tmp_path / "step", tmp_path / "traces")
        sweep = prepare(EvaluateConfig.model_validate_json(json.dumps(fields(tmp_path, **changes))), context)
        return Path(str(sweep.folder)), len(missing(sweep, Index(sweep.folder, report=print)))

    swept(tmp_path, Speaker(THOUGHTS, ANSWERS))
    plain, lacking = folder()
    assert lacking == 0
    assert "confidence" not in json.loads((plain / "key.json").read_text())
    sure, lacking = folder(confidence=True)
    assert (sure != plain, lacking) == (True, 12)
    swept(tmp_path, Sure(THOUGHTS, ANSWERS), confidence=True)
    assert folder(confidence=True) == (sure, 0)


def test_beliefs_are_those_of_the_distribution() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * 3
    logprobs = logits.log_softmax(-1)
    chosen = torch.tensor([4, 0, 49])
    for row, (token, found) in enumerate(zip(chosen.tolist(), beliefs(logprobs, chosen), strict=True)):
        likeliest = sorted(logprobs[row].tolist(), reverse=True)[:LIKELIEST]
        rest = 1 - sum(map(math.exp, likeliest))
        entropy = -sum(math.exp(each) * each for each in likeliest) - rest * math.log(rest)
        expected = (logprobs[row, token].item(), -sum(likeliest) / LIKELIEST, entropy)
        assert found == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.floats(0, 20), min_size=1, max_size=80), st.integers(1, 12), st.data())
def test_how_confident_a_trace_is_goes_by_its_windows(values: list[float], window: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values)))
    total = np.concatenate([[0.0], np.cumsum(values)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.evaluate.stopping.signals.WINDOW", window)
        found = {name: measure(total, cut) for name, measure in MEASURES.items()}
    there = values[:cut]
    stretches = [there[at : at + window] for at in range(max(1, cut - window + 1))]
    means = sorted(sum(each) / len(each) for each in stretches)
    bottom = means[: max(1, len(means) // 10)]
    expected = {
        "lowest": means[0],
        "bottom": sum(bottom) / len(bottom),
        "tail": sum(there[-window:]) / len(there[-window:]),
        "mean": sum(there) / cut,
    }
    assert found == pytest.approx({f"confidence_{name}": value for name, value in expected.items()}, abs=1e-9)


def test_a_real_engine_says_how_sure_it_was_and_decodes_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    fields(tmp_path)
    model = str(tmp_path / "model")
    prompt = (5, 6, 7, 8)

    async def decode() -> tuple[list[Chunk], list[int]]:
        engine = await start(EngineSpec("transformers", model, None, "float32", 256, 261, gpus=0, cpus=1))
        try:
            asked = Request(prompt, 12, (), beliefs=True)
            sure = [chunk async for chunk in engine.stream(asked)]
            plain = [token async for chunk in engine.stream(Request(prompt, 12, ())) for token in chunk.tokens]
            return sure, plain
        finally:
            await engine.close()

    chunks, plain = asyncio.run(decode())
    tokens = [token for chunk in chunks for token in chunk.tokens]
    said = [belief for chunk in chunks for belief in chunk.beliefs]
    assert tokens == plain
    assert len(said) == 12
    with torch.no_grad():
        whole = torch.tensor([[*prompt, *tokens]])
        logits = AutoModelForCausalLM.from_pretrained(model)(whole).logits[0, len(prompt) - 1 : -1, :261]
    expected = beliefs(logits.log_softmax(-1), torch.tensor(tokens))
    for one, other in zip(said, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stopping": "logprob"}, "stopping: logprob needs the log-probabilities of an engine"),
        ({"stopping": {"rule": "deepconf"}, "samples": 4, "temperature": 1}, "stopping: deepconf needs the log-prob"),
        (
            {
                "confidence": True,
                "engine": "openai",
                "served_model": "m",
                "resources": {"server": {"url": "http://x/v1"}},
            },
            "confidence: engine openai gives no log-probabilities: leave it out, or take transformers and vllm",
        ),
    ],
)
def test_what_needs_log_probabilities_is_refused_without_them(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        config(**changes)
    assert said in str(refused.value)
