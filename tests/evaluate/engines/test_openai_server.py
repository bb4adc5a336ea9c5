"""The same items through all three engines, one of them vLLM's own server on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import psutil
import pytest
import ray
from transformers import AutoTokenizer

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.protocol import Engine, EngineError, EngineSpec, Request, Sampling, ServedModel, start
from jobs.evaluate.engines.server import Server
from jobs.evaluate.run import run
from jobs.evaluate.sweep.prompts import Forcing, Prompter, Unit, room
from jobs.evaluate.sweep.tree import grow, leaf
from jobs.evaluate.traces.segments import Trace
from jobs.template import TEMPLATES
from orchestrator.job.context import StepContext
from tests.evaluate import tiny
from tests.evaluate.engines.test_engines import CONTEXT, POLICIES, QUESTIONS, check_requests, decode, spec, stream
from tests.ray_cluster import ray_cluster

pytestmark = pytest.mark.processes

KEY = "sk-canary-7d1f0c5e9b"
VARIABLE = "SERVED_MODEL_KEY"
PADDED = 272
START_SECONDS = 300


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"), CONTEXT, PADDED)


@pytest.fixture(scope="module")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for a key, which only environments know."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    # What ``vllm serve`` runs; that command itself asks for the version of a package that the CPU build does not have.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny", "--dtype", "float32"]
    chat = log.with_name("chat.jinja")
    chat.write_text(tiny.TEMPLATE + "<think>")
    command += ["--chat-template", str(chat), "--reasoning-parser", "qwen3"]
    command += ["--max-model-len", str(CONTEXT), "--enforce-eager", "--kv-cache-memory-bytes", str(256 << 20)]
    settings = {"VLLM_API_KEY": KEY, "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as output:
        process = psutil.Popen(
            command, env=os.environ | settings | {"OMP_NUM_THREADS": "1"}, stdout=output, stderr=output
        )
    os.environ[VARIABLE] = KEY
    try:
        _await_health(process, port, log)
        yield Server(url=f"http://127.0.0.1:{port}/v1", key_variable=VARIABLE)
    finally:
        del os.environ[VARIABLE]
        if process.poll() is None:
            family = [*process.children(recursive=True), process]
            process.terminate()
            _, alive = psutil.wait_procs(family, 30)
            for member in alive:
                member.kill()


def _await_health(process: psutil.Popen, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.5)
    pytest.fail(f"vllm serve did not start: {log.read_text()[-3000:]}")


def served(folder: Path, server: Server) -> EngineSpec:
    return replace(spec("openai", folder), served=ServedModel("tiny", PADDED, server))


Way = EngineSpec | AbstractAsyncContextManager[EngineSpec]


def use(way: Way, work: Callable[[Engine], Awaitable[None]]) -> None:
    """Starts an engine, uses it, closes it."""

    async def whole() -> None:
        async with nullcontext(way) if isinstance(way, EngineSpec) else way as engine_spec:
            engine = await start(engine_spec)
            try:
                await asyncio.wait_for(work(engine), 400)
            finally:
                await engine.close()

    asyncio.run(whole())


@pytest.fixture(scope="module")
def forcing(model_folder: Path) -> tuple[Prompter, Forcing]:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    prompter = Prompter(tokenizer, TEMPLATES["think"], [tokenizer.eos_token_id])
    return prompter, prompter.forcing(POLICIES)


Leaves = dict[tuple[str, str], tuple[object, ...]]


def leaves(way: Way, prompter: Prompter, forcing: Forcing) -> Leaves:
    """Every policy's thinking, answer and ledger for every question, decoded by one engine."""
    prompts = [prompter.prompt(question) for question in QUESTIONS]
    units = [Unit(str(n), 0, prompt, room(prompt, CONTEXT, forcing, 8)) for n, prompt in enumerate(prompts)]
    tree = grow(POLICIES, {string: len(ids) for string, ids in forcing.injected.items()})
    traces: list[Trace] = []

    async def work(engine: Engine) -> None:
        traces.extend(await decode(engine, units, forcing))

    use(way, work)
    found: Leaves = {}
    for unit, trace in zip(units, traces, strict=True):
        for policy in POLICIES:
            got = leaf(tree, policy, unit.room, trace.extent)
            assert got.answer is not None
            found[unit.item, policy.name] = (trace.before(got.answer), tuple(trace.tokens(got.answer)), got)
    return found


def test_the_same_items_through_all_three_engines(
    model_folder: Path, server: Server, forcing: tuple[Prompter, Forcing]
) -> None:
    through_server = leaves(served(model_folder, server), *forcing)
    through_transformers = leaves(spec("transformers", model_folder), *forcing)
    through_vllm = leaves(spec("vllm", model_folder), *forcing)
    assert through_server == through_transformers
    assert through_vllm == through_transformers


class Flaky:
    """A way to the server on which connections are torn down after some bytes of an answer."""

    def __init__(self, url: str, seed: int):
        self._port = urlsplit(url).port
        self._random = random.Random(seed)
        self.torn = 0

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        forward = asyncio.create_task(self._forward(reader, far_writer))
        left = self._random.randint(300, 20_000)
        while block := await far_reader.read(left):
            writer.write(block)
            left -= len(block)
            if left == 0:
                self.torn += 1
                await writer.drain()
                break
        forward.cancel()
        for each in (writer, far_writer):
            each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(1 << 16):
            writer.write(block)


def test_leaves_are_the_same_when_connections_are_torn_down(
    model_folder: Path, server: Server, forcing: tuple[Prompter, Forcing]
) -> None:
    flaky = Flaky(server.url, seed=0)

    @asynccontextmanager
    async def way() -> AsyncIterator[EngineSpec]:
        async with await asyncio.start_server(flaky.connect, "127.0.0.1", 0) as proxy:
            url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/v1"
            yield served(model_folder, server.model_copy(update={"url": url, "retries": 100}))

    undisturbed = leaves(served(model_folder, server), *forcing)
    assert leaves(way(), *forcing) == undisturbed
    assert flaky.torn > 20


def test_a_server_keeps_the_protocol(model_folder: Path, server: Server) -> None:
    async def work(engine: Engine) -> None:
        assert engine.cache_tokens is None
        await check_requests(engine, model_folder)

    use(served(model_folder, server), work)


def test_a_stream_that_is_left_ends_on_the_server(model_folder: Path, server: Server) -> None:
    async def work(engine: Engine) -> None:
        tasks = [asyncio.create_task(stream(engine, Request((5, n), 200, ()))) for n in range(20)]
        while await asyncio.to_thread(_running, server) < 10:
            assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        deadline = time.monotonic() + 60
        while await asyncio.to_thread(_running, server) > 0:
            assert time.monotonic() < deadline, "requests go on that nobody waits for"
            await asyncio.sleep(0.1)

    use(served(model_folder, server), work)


def _running(server: Server) -> float:
    """Requests that the server is decoding or holds back, by its own metrics."""
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    counted = [line for line in lines if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting{"))]
    assert len(counted) == 2
    return sum(float(line.split()[-1]) for line in counted)


def test_samples_of_a_stream_of_random_numbers_can_be_had_again(model_folder: Path, server: Server) -> None:
    async def work(engine: Engine) -> None:
        requests = [Request((5, 6), 30, (), sampling=Sampling(0.9, 0.8), seed=2**61 + n) for n in range(3)]
        first = [await stream(engine, request) for request in requests]
        again = await asyncio.gather(*(stream(engine, request) for request in requests))
        assert first == list(again)
        assert len({tuple(tokens) for tokens, _ in first}) == 3

    use(served(model_folder, server), work)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "large"}, "the server has no model 'large': it serves 'tiny'"),
        ({"context": CONTEXT + 1}, f"the server's context is {CONTEXT} tokens, and {CONTEXT + 1} are needed"),
        ({"key": None}, "the server refused a request with 401"),
    ],
)
def test_a_server_that_will_not_do_is_known_at_the_start(
    model_folder: Path, server: Server, change: dict[str, object], said: str
) -> None:
    access = server.model_copy(update={"key_variable": change.get("key", VARIABLE), "retries": 0})
    asked = replace(
        served(model_folder, access),
        served=ServedModel(str(change.get("name", "tiny")), PADDED, access),
        context_length=int(str(change.get("context", CONTEXT))),
    )
    with pytest.raises(EngineError, match=said):
        asyncio.run(start(asked))


def test_a_whole_step_has_the_samples_of_another_engine_and_the_key_is_nowhere(
    model_folder: Path, server: Server, tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    items = [{"id": str(number), "question": text, "answer": "2"} for number, text in enumerate(QUESTIONS)]
    questions.write_text("".join(json.dumps(item) + "\n" for item in items))
    fields = {
        "model": str(model_folder),
        "tasks": [{"name": "letters-again", "path": str(questions)}],
        "budgets": [4, 16, "auto"],
        "extensions": {"strings": ["Wait"], "counts": [1, 2]},
        "max_answer_tokens": 12,
    }
    through_server = {
        "engine": "openai",
        "served_model": "tiny",
        "resources": {"server": server.model_dump(mode="json")},
    }
    with ray_cluster() as logs:
        samples = [_samples(tmp_path / name, fields | more) for name, more in (("a", {}), ("b", through_server))]
        commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        ray.shutdown()
        pd.testing.assert_frame_equal(*samples)
        assert not [command for command in commands if KEY in command]
        written = [path for folder in (tmp_path, logs) for path in folder.rglob("*") if path.is_file()]
        assert any("tracked" in path.parts for path in written)
        assert not [path for path in written if KEY.encode() in path.read_bytes()]


def _samples(store: Path, fields: dict[str, object]) -> pd.DataFrame:
    context = StepContext("experiment", "sweep", "step", store / "step", store / "traces")
    context.folder.mkdir(parents=True)
    run(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    return pd.read_parquet(context.output / "samples.parquet")


def test_its_chat_endpoint_thinks_within_budgets(model_folder: Path, server: Server, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ends = tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>"])
    # The server counts the tokens of thinking that it can show as text.
    shown = [token for token in range(256) if tokenizer.decode([token]).isalnum()]
    banned = {str(token): -100 for token in range(PADDED) if token not in (*shown, *ends)}
    fields = {
        "tasks": [{"name": "letters", "items": 8}],
        "budgets": [2, 8],
        "baseline": True,
        "engine": "openai",
        "served_model": "tiny",
        "chat": {
            "budget": "thinking_token_budget",
            "parameters": {"temperature": 0.0, "max_completion_tokens": 100, "logit_bias": banned},
        },
        "resources": {"server": server.model_dump(mode="json")},
    }
    samples = _samples(tmp_path, fields).set_index("policy")
    thinking = samples["thinking_tokens"]
    assert thinking["2"].max() == 2
    assert thinking["8"].max() == 8
    assert thinking["no forcing"].max() > 8
    assert set(samples["thinking_end"]["2"]) == {"forced"}
    assert "error" not in set(samples["verdict"])
