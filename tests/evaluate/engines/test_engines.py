"""Real engines against transformers' own ``generate``, one policy at a time."""

from __future__ import annotations

import asyncio
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Engine, EngineError, EngineSpec, Request, Sampling, start
from jobs.evaluate.engines.sampling import draw
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policy import FINAL_ANSWER, Policy
from jobs.evaluate.sweep.prompts import Forcing, Prompter, Unit, room
from jobs.evaluate.sweep.tree import grow, leaf
from jobs.evaluate.traces.segments import Trace
from jobs.template import TEMPLATES
from tests.evaluate import tiny
from tests.evaluate.engines.penalties import check_draws, check_penalties
from tests.evaluate.engines.restarts import decoded
from tests.evaluate.oracle import Outcome
from tests.evaluate.scripted_server import whole as stream

pytestmark = pytest.mark.processes

if TYPE_CHECKING:
    from jobs.evaluate.engines.vllm import VllmEngine

CONTEXT = 256
POLICIES = grid([1, 2, 5, 16, 40, None], ["Wait", "Hmm\n", ""], [1, 2, 4], [24, None])
QUESTIONS = [f"How many {letter} in {word}?" for letter in "ab" for word in ("abracadabra", "bob", "x" * 30)]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"), CONTEXT)


@pytest.fixture(scope="module")
def prompter(model_folder: Path) -> Prompter:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    return Prompter(tokenizer, TEMPLATES["think"], [tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def forcing(prompter: Prompter) -> Forcing:
    return prompter.forcing(POLICIES)


@pytest.fixture(scope="module")
def units(prompter: Prompter, forcing: Forcing) -> list[Unit]:
    prompts = [prompter.prompt(question) for question in QUESTIONS]
    return [Unit(str(n), 0, prompt, room(prompt, CONTEXT, forcing, 8)) for n, prompt in enumerate(prompts)]


def spec(name: Any, folder: Path) -> EngineSpec:
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    return EngineSpec(name, str(folder), None, "float32", CONTEXT, vocabulary, gpus=0, cpus=1)


class Generate:
    """Greedy budget forcing with nothing but ``model.generate``, one call per round."""

    def __init__(self, folder: Path):
        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.beyond = list(range(len(AutoTokenizer.from_pretrained(folder)), self.model.config.vocab_size))

    def rounds(self, prefix: tuple[int, ...], most: int, stop: tuple[int, ...], forbid: bool) -> tuple[list[int], bool]:
        """Tokens, and whether a stop ended them."""
        output = self.model.generate(
            torch.tensor([prefix]),
            attention_mask=torch.ones(1, len(prefix), dtype=torch.long),
            max_new_tokens=most,
            min_new_tokens=1 if forbid else None,
            do_sample=False,
            eos_token_id=list(stop),
            suppress_tokens=self.beyond,
        )[0, len(prefix) :].tolist()
        return (output[:-1], True) if output[-1] in stop else (output, False)

    def alone(self, policy: Policy, unit: Unit, forcing: Forcing) -> Outcome:
        budget = min(policy.route.budget or unit.room.thinking, unit.room.thinking)
        thinking: tuple[int, ...] = ()
        injected = used = skipped = 0
        while True:
            stop = forcing.thinking_stops
            tokens, ended = self.rounds((*unit.prompt, *thinking), budget - len(thinking), stop, forbid=used > 0)
            thinking += tuple(tokens)
            string = forcing.injected[(*policy.route.strings, "")[used]]
            if not ended or used == policy.count:
                break
            if len(thinking) + len(string) >= budget:
                skipped = 1
                break
            thinking, injected, used = thinking + string, injected + len(string), used + 1
        end = "natural" if ended else "forced" if (policy.route.budget or math.inf) <= unit.room.thinking else "context"
        closing = forcing.closing(None if ended else FINAL_ANSWER, thinking[-1] if thinking else unit.prompt[-1])
        answer, stopped = self.rounds(
            (*unit.prompt, *thinking, *closing), unit.room.answer, forcing.end_of_turn, forbid=False
        )
        answer_end = "stop" if stopped else "length"
        return Outcome(thinking, injected, end, tuple(answer), answer_end, used, skipped, 0)


@pytest.fixture(scope="module")
def expected(model_folder: Path, units: list[Unit], forcing: Forcing) -> dict[tuple[str, Policy], Outcome]:
    generate = Generate(model_folder)
    return {(unit.item, policy): generate.alone(policy, unit, forcing) for unit in units for policy in POLICIES}


def run(folder: Path, name: str, use: Callable[[Engine], Awaitable[None]]) -> None:
    """Starts an engine, uses it, closes it."""

    async def whole() -> None:
        engine = await start(spec(name, folder))
        try:
            await asyncio.wait_for(use(engine), 400)
        finally:
            await engine.close()

    asyncio.run(whole())


async def decode(engine: Engine, units: list[Unit], forcing: Forcing) -> list[Trace]:
    tree = grow(POLICIES, {string: len(ids) for string, ids in forcing.injected.items()})
    walker = Walker(engine, tree, forcing, Sampling(), 0, lambda segment: None)
    traces = [Trace(unit, forcing) for unit in units]
    await asyncio.gather(*(walker.walk(unit, trace) for unit, trace in zip(units, traces, strict=True)))
    return traces


def assert_leaves_equal(
    traces: list[Trace], units: list[Unit], forcing: Forcing, expected: dict[tuple[str, Policy], Outcome]
) -> None:
    tree = grow(POLICIES, {string: len(ids) for string, ids in forcing.injected.items()})
    for unit, trace in zip(units, traces, strict=True):
        for policy in POLICIES:
            got = leaf(tree, policy, unit.room, trace.extent)
            want = expected[unit.item, policy]
            assert got.answer is not None
            answer = tuple(trace.tokens(got.answer))[: got.answer_tokens]
            assert (policy, answer) == (policy, want.answer)
            assert (got.thinking_tokens, got.injected_tokens) == (len(want.thinking), want.injected)
            assert (got.thinking_end, got.answer_end) == (want.thinking_end, want.answer_end)
            assert (got.extensions_used, got.extensions_skipped) == (want.used, want.skipped)


def test_the_cases_are_of_every_kind(expected: dict[tuple[str, Policy], Outcome]) -> None:
    ends = Counter(outcome.thinking_end for outcome in expected.values())
    assert min(ends["natural"], ends["forced"], ends["context"]) > 5
    assert {outcome.used for outcome in expected.values()} >= {0, 1, 2}
    assert {outcome.skipped for outcome in expected.values()} == {0, 1}
    assert {outcome.answer_end for outcome in expected.values()} == {"stop", "length"}


def test_transformers_leaves_equal_policies_one_by_one(
    model_folder: Path, units: list[Unit], forcing: Forcing, expected: dict[tuple[str, Policy], Outcome]
) -> None:
    async def use(engine: Engine) -> None:
        assert_leaves_equal(await decode(engine, units, forcing), units, forcing, expected)

    run(model_folder, "transformers", use)


async def check_requests(engine: Engine, folder: Path) -> None:
    """What the protocol asks of any engine, beyond the leaves."""
    fast = AutoTokenizer.from_pretrained(folder)
    vocabulary = len(fast)
    prompt = tuple(fast.encode("How many?<think>"))
    tokens, end = await stream(engine, Request(prompt, 100, ()))
    assert (len(tokens), end) == (100, "length")
    assert max(tokens) < vocabulary, "an id beyond the tokenizer's"

    stop = tokens[7]
    first = tokens.index(stop)
    assert await stream(engine, Request(prompt, 100, (stop,))) == (tokens[:first], "stop")
    assert await stream(engine, Request(prompt, first + 1, (stop,))) == (tokens[:first], "stop")
    if first:
        assert await stream(engine, Request(prompt, first, (stop,))) == (tokens[:first], "length")
    assert await stream(engine, Request(prompt, 5, (tokens[0],))) == ([], "stop")
    forced, _ = await stream(engine, Request(prompt, 5, (tokens[0],), forbid_stop_first=True))
    assert forced
    assert forced[0] != tokens[0]
    likeliest = (tokens[0], forced[0])
    without, _ = await stream(engine, Request(prompt, 5, (), forbidden=likeliest))
    assert len(without) == 5
    assert not set(likeliest) & set(without), "an id that was to be left out"

    sampled = [Request(prompt, 20, (), sampling=Sampling(1.0), seed=seed) for seed in (1, 1, 2)]
    once, again, other = await asyncio.gather(*(stream(engine, request) for request in sampled))
    assert once == again
    assert once != other

    # A stream that is left early leaves nothing behind: the engine goes on to serve others.
    async with aclosing(engine.stream(Request(prompt, 200, ()))) as chunks:
        await anext(chunks)
    assert await stream(engine, Request(prompt, 100, ())) == (tokens, "length")


async def check_what_it_tells(engine: Engine, folder: Path) -> None:
    """What the protocol asks of engines that say how likely tokens are."""
    prompt = tuple(AutoTokenizer.from_pretrained(folder).encode("How many?<think>"))
    tokens, _ = await stream(engine, Request(prompt, 20, ()))
    model, among = AutoModelForCausalLM.from_pretrained(folder), (5, 70, 200)
    for asked in (prompt, prompt[:4], prompt):
        logits = model(torch.tensor([asked])).logits[0, -1, list(among)]
        request = Request(asked, 2, (), among=among)
        first, second = [each async for chunk in engine.stream(request) for each in chunk.chances]
        assert len(second) == 3, "of every token"
        told = torch.tensor(first)
        torch.testing.assert_close(told - told[0], logits - logits[0], atol=1e-3, rtol=1e-3)
    sure = [chunk async for chunk in engine.stream(Request(prompt, 20, (), beliefs=True))]
    assert [token for chunk in sure for token in chunk.tokens] == tokens, "asked how sure it is, it does the same"
    said = [belief for chunk in sure for belief in chunk.beliefs]
    assert len(said) == 20
    assert all(-math.inf < each.logprob <= 0 < each.confidence < math.inf and each.entropy >= 0 for each in said)


def test_transformers_keeps_the_protocol(model_folder: Path) -> None:
    async def use(engine: Engine) -> None:
        await check_requests(engine, model_folder)
        await check_what_it_tells(engine, model_folder)

    run(model_folder, "transformers", use)


def test_a_continued_sample_goes_on_as_if_it_had_not_stopped(model_folder: Path) -> None:
    async def use(engine: Engine) -> None:
        sampling = Sampling(0.8, 0.9)
        whole, _ = await stream(engine, Request((5, 6, 7), 40, (), sampling=sampling, seed=3))
        prefix = (5, 6, 7, *whole[:25])
        rest, _ = await stream(engine, Request(prefix, 15, (), sampling=sampling, seed=3, position=25))
        assert whole[25:] == rest

    run(model_folder, "transformers", use)


async def check_restarts(engine: Engine, units: list[Unit], forcing: Forcing, lives: Sequence[float]) -> None:
    """A sampled tree comes out the same if the engine dies on the way; `lives` are of so many chunks."""
    tree = grow(POLICIES, {string: len(ids) for string, ids in forcing.injected.items()})
    for unit in units:
        undisturbed = await decoded(engine, unit, tree, forcing, Sampling(0.8, 0.9))
        assert len({tokens for tokens, _ in undisturbed.values()}) > 5, "there is something to compare"
        assert await decoded(engine, unit, tree, forcing, Sampling(0.8, 0.9), lives) == undisturbed


def test_a_sampled_tree_on_transformers_does_not_show_that_engines_died(
    model_folder: Path, units: list[Unit], forcing: Forcing
) -> None:
    async def use(engine: Engine) -> None:
        await check_restarts(engine, units, forcing, [150, 30, 90])

    run(model_folder, "transformers", use)


def test_a_closed_engine_fails_its_streams(model_folder: Path) -> None:
    async def whole() -> None:
        engine = await start(spec("transformers", model_folder))
        running = asyncio.create_task(stream(engine, Request((5,), 200, ())))
        await asyncio.sleep(0.05)
        await engine.close()
        with pytest.raises(EngineError, match="closed"):
            await running
        with pytest.raises(EngineError, match="closed"):
            await stream(engine, Request((5,), 2, ()))

    asyncio.run(whole())


def test_a_model_that_cannot_be_loaded_is_an_engine_error(tmp_path: Path) -> None:
    broken = EngineSpec("transformers", str(tmp_path), None, "float32", CONTEXT, 10, gpus=0, cpus=1)
    with pytest.raises(EngineError, match="cannot load"):
        asyncio.run(start(broken))


def test_whatever_ends_the_decoding_ends_the_waiting_for_it_too(model_folder: Path) -> None:
    async def use(engine: Engine) -> None:
        unknown = stream(engine, Request((10**6,), 2, ()))  # an id that the model has no embedding for
        others = [stream(engine, Request((5,), 200, (), priority=priority)) for priority in (0, 1)]
        ended = await asyncio.wait_for(asyncio.gather(unknown, *others, return_exceptions=True), 60)
        assert all(isinstance(each, EngineError) for each in ended), ended
        assert "failed while decoding: IndexError" in str(ended[0])

    run(model_folder, "transformers", use)


def test_running_out_of_memory_while_decoding_is_an_engine_error(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    async def use(engine: Engine) -> None:
        async with aclosing(engine.stream(Request((5, 6, 7), 200, ()))) as chunks:
            await anext(chunks)
            monkeypatch.setattr("jobs.evaluate.engines.transformers._Batch._advance", exhausted)
            with pytest.raises(EngineError, match="failed while decoding: OutOfMemoryError: tried to allocate 20 GiB"):
                async for _ in chunks:
                    pass
        with pytest.raises(EngineError, match="20 GiB"):
            await stream(engine, Request((5,), 2, ()))

    run(model_folder, "transformers", use)


def test_vllm_that_dies_while_loading_says_why(model_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(model_folder, broken)
    (broken / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(EngineError, match=r"^vllm cannot load [^\n]*its log says: .*Error: [^\n]*header[^\n]*$"):
        asyncio.run(start(spec("vllm", broken)))


def test_sampling_follows_the_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    draws = 20_000
    uniform = (torch.arange(draws) + 0.5) / draws
    for temperature, top_p, support in ((1.0, 1.0, 4), (0.5, 1.0, 4), (1.0, 0.9, 3), (1.0, 1e-6, 1)):
        tokens = draw(logits.expand(draws, -1), [Sampling(temperature, top_p)] * draws, uniform.tolist())
        share = torch.bincount(tokens, minlength=4) / draws
        kept = (logits[0] / temperature).softmax(0)
        kept[support:] = 0
        assert torch.allclose(share, kept / kept.sum(), atol=2e-4)


async def check_death(engine: Engine) -> None:
    """A core that is killed is an error of each open request, of one that it was not told of yet, and of later ones."""
    (core,) = [each for each in psutil.Process().children(recursive=True) if "EngineCore" in each.name()]
    async with aclosing(engine.stream(Request((5, 6, 7), 200, ()))) as chunks:
        await anext(chunks)
        core.suspend()
        del cast("VllmEngine", engine)._engine._supported_tasks  # as before the first request: the core is asked
        first = asyncio.create_task(stream(engine, Request((5,), 2, ())))
        await asyncio.sleep(0.1)
        core.kill()
        with pytest.raises(EngineError, match="vllm failed while decoding"):
            async for _ in chunks:
                pass
    with pytest.raises(EngineError, match="vllm failed while decoding"):
        await asyncio.wait_for(first, 60)
    with pytest.raises(EngineError):
        await stream(engine, Request((5,), 2, ()))


@pytest.fixture(scope="module")
def vllm_traces(model_folder: Path, units: list[Unit], forcing: Forcing) -> list[Trace]:
    """The one start of vLLM in these tests: the tree decoded, the protocol checked, the processes gone."""
    traces: list[Trace] = []

    async def use(engine: Engine) -> None:
        assert engine.cache_tokens is not None
        assert engine.cache_tokens > 8 * CONTEXT
        traces.extend(await decode(engine, units, forcing))
        await check_requests(engine, model_folder)
        await check_what_it_tells(engine, model_folder)
        await check_penalties(engine, model_folder)
        await check_draws(engine, model_folder, 600)
        await check_restarts(engine, units, forcing, [20, 5, 12])  # chunks of eight tokens
        await check_death(engine)

    resource_tracker.ensure_running()  # Python's own, for all that this process starts
    bystander = psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        run(model_folder, "vllm", use)
        after = {process.pid for process in psutil.Process().children(recursive=True)}
        assert after <= before, "vllm left processes behind"
        assert bystander.poll() is None, "vllm ended a process that it did not start"
    finally:
        bystander.communicate(b"\n")
    return traces


def test_vllm_leaves_equal_policies_one_by_one(
    vllm_traces: list[Trace], units: list[Unit], forcing: Forcing, expected: dict[tuple[str, Policy], Outcome]
) -> None:
    assert_leaves_equal(vllm_traces, units, forcing, expected)
