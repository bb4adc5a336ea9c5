"""Parts a and b of ``gpu_check.py``: the engines.

The workload is that of ``paper_workload.py``, whose natural ends are written down beforehand, so any model will do.
With a tokenizer its prompts are questions of the letters task, else random ids. Lengths are divided by `SHORTER` where
the engine is slow.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from one_pass import measure_on
from paper_workload import ANSWER, CONTEXT, FORCING, POLICIES, SEED, VOCABULARY, Scripted, save_model, script
from tree_equals_policies import compare

from jobs.evaluate.decode.replica import ReplicaSpec
from jobs.evaluate.engines.protocol import Engine, EngineError, EngineSpec, Request, Sampling, start
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Forcing, Unit, room
from jobs.evaluate.sweep.tree import grow

if TYPE_CHECKING:
    from gpu_check import Record, Where

SHORTER = 8
IN_FLIGHT = 128
FREED_SECONDS, FREED_BYTES = 60.0, 256 << 20
"""How long a killed core's memory may take to come back, and how much of it may stay with the driver."""


@dataclass(frozen=True)
class Workload:
    """What is decoded with one model."""

    model: str
    ids: int
    """That the model may emit."""
    units: tuple[Unit, ...]
    forcing: Forcing
    policies: tuple[Policy, ...]
    ends: Mapping[int, int]

    def spec(self, engine: str, where: Where, dtype: str, **fields: Any) -> EngineSpec:
        """An engine of this model."""
        base = {"vocabulary": self.ids, "gpus": int(where.device == "cuda"), "cpus": 1 if where.tiny else 4}
        return EngineSpec(engine, self.model, None, dtype, CONTEXT, **(base | fields))  # type: ignore[arg-type]

    async def compare(self, engine: Engine, folder: Path) -> dict[str, float]:
        """The tree against its policies one by one."""
        tree = grow(self.policies, {string: len(ids) for string, ids in self.forcing.injected.items()})
        # An engine is there, so nothing starts one.
        spec = ReplicaSpec(lambda: start(None), (tree,), self.forcing, Sampling(), SEED, folder, IN_FLIGHT)  # type: ignore[arg-type]
        return await compare(Scripted(engine, self.ends), spec, self.units, self.policies)


def workload(where: Where, items: int, shorter: int) -> Workload:
    """With natural ends at a `shorter`-th of the paper's, and budgets to match."""
    scripted = script(items)
    policies = grid((4, 16, 64, None), ["Wait"], [1, 2]) + grid((), ["Hmm", ""], [2])
    ends = {stream: max(1, length // shorter) for stream, length in scripted.ends().items()}
    if where.model is None:
        folder = save_model(where.scratch / "model") if where.tiny else random_model(where.scratch / "model")
        return Workload(str(folder), VOCABULARY, scripted.units, FORCING, policies, ends)
    ids = json.loads((Path(where.model) / "config.json").read_text())["vocab_size"]
    prompts, forcing = questions(where.model, items)
    units = tuple(
        replace(unit, prompt=prompt, room=room(prompt, CONTEXT, forcing, ANSWER))
        for unit, prompt in zip(scripted.units, prompts, strict=True)
    )
    return Workload(where.model, ids, units, forcing, policies, ends)


def questions(model: str, items: int) -> tuple[list[tuple[int, ...]], Forcing]:
    """Questions as the model's chat template writes them, and its own ids for what is forced."""
    from transformers import AutoTokenizer

    from jobs.letters.generator import training

    tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    prompts = []
    for question, _ in training(items, seed=SEED):
        said = [{"role": "user", "content": question.text}]
        prompts.append(ids(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)))
    forcing = Forcing(
        close=ids("\n\n"),
        newline=ids("\n"),
        final=ids("Final Answer:"),
        newline_ends=frozenset(ids("\n")),
        end_of_turn=(tokenizer.eos_token_id,),
        injected={string: ids(string) for string in ("Wait", "Hmm", "")},
    )
    return prompts, forcing


def random_model(folder: Path) -> Path:
    """Qwen2.5-1.5B's shapes with random weights, in bf16 on disk; its vocabulary is that of the workload's prompts."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=VOCABULARY,
                hidden_size=1536,
                intermediate_size=8960,
                num_hidden_layers=28,
                num_attention_heads=12,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=True,
                dtype="bfloat16",
            )
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def part_a(where: Where, record: Record) -> None:
    """The transformers engine, in float32 and in bf16."""
    asyncio.run(_transformers(where, record))


async def _transformers(where: Where, record: Record) -> None:
    work = workload(where, 3 if where.tiny else 32, 48 if where.tiny else SHORTER)
    for dtype in ("float32", "bfloat16"):
        engine = await start(work.spec("transformers", where, dtype))
        try:
            figures = await work.compare(engine, where.scratch)
        finally:
            await engine.close()
        record.add(**{f"{dtype}_{name}": value for name, value in figures.items()})
        record.add(**{f"{dtype}_differing_share": figures["differing_answers"] / figures["answers"]})


def part_b(where: Where, record: Record) -> None:
    """vLLM: one engine for all that is asked, killed last; on a GPU one more with batch-invariant kernels."""
    asyncio.run(_vllm(where, record))
    if where.device == "cuda":
        asyncio.run(_batch_invariant(where, record))
    else:
        record.leave_out("batch_invariant", "no GPU")


async def _vllm(where: Where, record: Record) -> None:
    dtype = "bfloat16" if where.device == "cuda" else "float32"
    work = workload(where, 3 if where.tiny else 32, 48 if where.tiny else 1)
    # A sixteenth of the ids are masked, as those are that pad a model's embeddings.
    known = work.ids * 15 // 16
    there, began = set(psutil.Process().children(recursive=True)), time.perf_counter()
    used = _gpu_memory(where)
    engine: Any = await start(work.spec("vllm", where, dtype, vocabulary=known))
    record.add(start_seconds=time.perf_counter() - began, cache_tokens=engine.cache_tokens)
    try:
        record.add(**await masks(engine, work.units, known))
        record.add(**await seeds(engine, work.units))
        figures = await work.compare(engine, where.scratch)
        record.add(**figures, differing_share=figures["differing_answers"] / figures["answers"])
        items, policies = (3, POLICIES[:2]) if where.tiny else (96, POLICIES)
        one = await measure_on(engine, items, where.scratch / "traces", policies)
        record.add(**{f"one_pass_{name}": value for name, value in one.items()})
        core = max(set(psutil.Process().children(recursive=True)) - there, key=lambda each: each.memory_info().rss)
        record.add(**await killed(engine, work.units[0], core))
    finally:
        await engine.close()
    if used is None:
        record.leave_out("memory_freed_seconds", "no GPU")
    else:
        record.add(memory_freed_seconds=_until_freed(where, used))


async def _batch_invariant(where: Where, record: Record) -> None:
    work = workload(where, 32, 1)
    engine = await start(work.spec("vllm", where, "bfloat16", batch_invariant=True))
    try:
        figures = await work.compare(engine, where.scratch)
    finally:
        await engine.close()
    record.add(**{f"batch_invariant_{name}": value for name, value in figures.items()})


async def masks(engine: Engine, units: Sequence[Unit], known: int) -> dict[str, Any]:
    """Whether ids that the tokenizer does not know are never drawn, at the flattest distribution there is."""
    flat = Sampling(temperature=2.0)
    asked = [Request(unit.prompt, 64, (), sampling=flat, seed=seed) for unit in units for seed in range(4)]
    drawn = [token for tokens in await asyncio.gather(*(_tokens(engine, one) for one in asked)) for token in tokens]
    return {"masked_ids_drawn": sum(token >= known for token in drawn), "drawn": len(drawn)}


async def seeds(engine: Engine, units: Sequence[Unit]) -> dict[str, Any]:
    """Whether a seed gives the same tokens alone, again, and beside others; another seed others; and a request that
    goes on from its own tokens what the undisturbed one gave (promised by no engine whose seed has no position)."""
    one = Request(units[0].prompt, 48, (), sampling=Sampling(temperature=1.0), seed=7)
    others = [replace(one, prompt=unit.prompt, seed=seed) for unit in units for seed in range(100, 108)]
    alone, again = await _tokens(engine, one), await _tokens(engine, one)
    beside, *_ = await asyncio.gather(*(_tokens(engine, each) for each in (one, *others)))
    other = await _tokens(engine, replace(one, seed=8))
    half = len(alone) // 2
    rest = replace(one, prompt=(*one.prompt, *alone[:half]), max_tokens=48 - half, position=half)
    return {
        "seed_again_same": alone == again,
        "seed_beside_others_same": alone == beside,
        "another_seed_differs": alone != other,
        "resumed_as_undisturbed": await _tokens(engine, rest) == alone[half:],
    }


async def killed(engine: Engine, unit: Unit, core: psutil.Process) -> dict[str, Any]:
    """Kills the engine's core under a request: how long until that is told, and what is said."""
    request = asyncio.create_task(_tokens(engine, Request(unit.prompt, CONTEXT - len(unit.prompt) - 1, ())))
    await asyncio.sleep(0.5)
    if request.done():
        raise RuntimeError(f"a request of {CONTEXT - len(unit.prompt) - 1} tokens ended before its core was killed")
    core.kill()
    began = time.perf_counter()
    try:
        async with asyncio.timeout(60):
            await request
    except EngineError as error:
        return {"kill_told_seconds": time.perf_counter() - began, "kill_told_as": str(error)}
    raise RuntimeError("the engine's core was killed, and a request ended as if nothing had happened")


async def _tokens(engine: Engine, request: Request) -> list[int]:
    return [token async for chunk in engine.stream(request) for token in chunk.tokens]


def _gpu_memory(where: Where) -> int | None:
    """Bytes in use on the GPU, by all processes; None without one. Asked of the driver: a context would take memory."""
    if where.device != "cuda":
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    used = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return int(used) << 20


def _until_freed(where: Where, used: int) -> float | None:
    """Seconds until the GPU's memory is as free as it was; None where it is not within a minute."""
    began = time.perf_counter()
    while time.perf_counter() - began < FREED_SECONDS:
        if (_gpu_memory(where) or 0) <= used + FREED_BYTES:
            return time.perf_counter() - began
        time.sleep(0.2)
    return None
