"""The paper's sweep at a sixteenth of its size, with every length written down beforehand.

Fourteen policies: budgets 32 to 1,024 and auto; "Wait" 1, 2, 4 and 6 times; "Alternatively", "Hmm" and nothing at all
twice. Thinking ends by itself after 382 tokens in the mean, with a long tail; each extension adds 17; answers have 25.
The script says so, :class:`Scripted` makes a real engine obey, and :func:`arithmetic` tells from the script alone how
many tokens a sweep has to decode.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np

from jobs.evaluate.decode.walker import stream_seed
from jobs.evaluate.engines.protocol import Chunk, Engine, Request
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import Forcing, Unit, room
from jobs.evaluate.sweep.tree import BranchPath, Key

BUDGETS = (32, 64, 128, 256, 512, 1024, None)
POLICIES = tuple(dict.fromkeys((*grid(BUDGETS, ["Wait"], [1, 2, 4, 6]), *grid([], ["Alternatively", "Hmm", ""], [2]))))
CONTEXT, PROMPT, ANSWER, VOCABULARY = 2048, 32, 25, 1024
FORCING = Forcing(
    close=(1,),
    newline=(2,),
    final=(2, 3, 4, 5),
    newline_ends=frozenset({2}),
    end_of_turn=(6,),
    injected={"Wait": (7,), "Alternatively": (8,), "Hmm": (9,), "": ()},
)
FIRST_WORD = 10
NATURAL_MEAN, NATURAL_SIGMA, EXTENSION_MEAN = 382.0, 0.65, 17.0
SEED = 0


@dataclass(frozen=True)
class Script:
    """Units, and the tokens after which each of their branches ends by itself."""

    units: tuple[Unit, ...]
    lengths: tuple[Mapping[BranchPath, int], ...]

    def ends(self) -> dict[int, int]:
        """The lengths by the random stream of the branch, which is how an engine can tell it."""
        return {
            stream_seed(SEED, unit, Key(path, "thinking")): length
            for unit, lengths in zip(self.units, self.lengths, strict=True)
            for path, length in lengths.items()
        }


def script(items: int) -> Script:
    """The same for the same number of items. Natural lengths are quantiles of a log-normal distribution, shuffled."""
    rng = np.random.default_rng(SEED)
    prompts = rng.integers(FIRST_WORD, VOCABULARY, (items, PROMPT)).tolist()
    units = tuple(
        Unit(f"item {number}", 0, tuple(prompt), room(prompt, CONTEXT, FORCING, ANSWER))
        for number, prompt in enumerate(prompts)
    )
    normal = NormalDist(sigma=NATURAL_SIGMA)
    tail = np.exp([normal.inv_cdf((number + 0.5) / items) for number in range(items)])
    natural = rng.permutation(np.rint(tail * NATURAL_MEAN / tail.mean()).astype(int)).tolist()
    paths = dict.fromkeys(policy.route.strings[:depth] for policy in POLICIES for depth in range(1, policy.count + 1))
    lengths = tuple(
        {(): length} | {path: int(rng.geometric(1 / EXTENSION_MEAN)) for path in paths} for length in natural
    )
    return Script(units, lengths)


def arithmetic(workload: Script, policies: Sequence[Policy] = POLICIES) -> tuple[int, int]:
    """Tokens that `policies` decode one by one, and those of them that are not the same tokens again."""
    alone = 0
    once: dict[tuple[str, BranchPath, int], int] = {}
    answers = set()
    for unit, lengths in zip(workload.units, workload.lengths, strict=True):
        for policy in policies:
            cap = min(policy.route.budget or unit.room.thinking, unit.room.thinking)
            path: BranchPath = ()
            position = 0
            while True:
                decoded = min(lengths[path], cap - position)
                alone += decoded
                piece = (unit.item, path, 0)
                once[piece] = max(once.get(piece, 0), decoded)
                position += decoded
                if position == cap or len(path) == policy.count:
                    break
                string = policy.route.strings[len(path)]
                added = len(FORCING.injected[string])
                if position + added >= cap:
                    break
                path, position = (*path, string), position + added
            alone += ANSWER
            answers.add((unit.item, path, position, position == cap))
    return alone, sum(once.values()) + ANSWER * len(answers)


@dataclass
class Scripted:
    """A real engine whose thinking ends where the script says. Counts what it decodes, as the arithmetic does."""

    engine: Engine
    ends: Mapping[int, int]
    decoded: int = field(default=0, init=False)

    @property
    def cache_tokens(self) -> int | None:
        """The engine's."""
        return self.engine.cache_tokens

    async def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """See :meth:`Engine.stream`. A natural end costs a token, as the stop token does that it stands for."""
        left = self.ends.get(request.seed, CONTEXT) - request.position
        ends = left < request.max_tokens
        asked = replace(request, max_tokens=left + 1 if ends else request.max_tokens, stop=())
        async with aclosing(self.engine.stream(asked)) as chunks:
            async for tokens, end, *_ in chunks:
                chunk = Chunk(tokens[:-1], "stop") if end and ends else Chunk(tokens, end)
                self.decoded += len(chunk.tokens)
                yield chunk

    async def close(self) -> None:
        """Closes the engine."""
        await self.engine.close()


def save_model(folder: Path) -> Path:
    """Writes a randomly initialised Qwen2 of 0.8 million parameters, without tokenizer: nothing here is text."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(SEED)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=CONTEXT,
        )
    )
    model.save_pretrained(folder)
    return folder
