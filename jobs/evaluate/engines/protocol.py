"""What decodes: one small protocol, and one module per library behind it.

An engine streams token ids for a :class:`Request`. It knows nothing of budgets, branches or policies; those are made of
requests (see ``walker``). Which engines there are is said in ``registry``; each is started by a function of its own
module, which imports its library itself, so that choosing one engine never loads another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from jobs.evaluate.engines.registry import ENGINES
from jobs.evaluate.engines.server import Server


class EngineError(Exception):
    """The engine failed, or did something no engine may do. Its replica cannot be relied on any more."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Request:
    """Token ids to continue, and when to stop."""

    prompt: tuple[int, ...]
    max_tokens: int
    stop: tuple[int, ...]
    """Ids that end the request. They are reported, never yielded."""
    forbid_stop_first: bool = False
    """The first token may not be one of `stop`."""
    forbidden: tuple[int, ...] = ()
    """Ids that no token may be; a few."""
    sampling: Sampling = Sampling()
    seed: int = 0
    """Names the stream of random numbers, in 0 … 2**62. It is of one piece, and no other piece has it."""
    position: int = 0
    """How many tokens of the piece came before. Random numbers are by (seed, position), so that one that is continued
    draws what it would have drawn undisturbed: if it drew anew, those that were about to be long would have a second
    chance to be short, while the short ones were kept."""
    priority: int = 0
    """Lower goes first when not all requests fit."""

    @property
    def generator_seed(self) -> int:
        """For servers that seed a generator per request: a continued piece has to draw anew there, because the same
        seed would give it the numbers that its first tokens were drawn with."""
        return hash((self.seed, self.position)) & (2**63 - 1)


class Chunk(NamedTuple):
    """Tokens as they come. The last chunk of a request has an end; it may be empty."""

    tokens: list[int]
    end: Literal["stop", "length"] | None = None


class Engine(Protocol):
    """Decodes any number of requests at once. Not for use from several event loops."""

    @property
    def cache_tokens(self) -> int | None:
        """Tokens whose keys and values its cache holds at once; None when that is not its to say."""

    def stream(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Decodes `request`. Closing the generator, or cancelling its task, stops the decoding.

        Raises :class:`EngineError` when the engine fails.
        """

    async def close(self) -> None:
        """Frees everything the engine holds; its processes are gone when this returns."""


@dataclass(frozen=True)
class ServedModel:
    """The model on an OpenAI-compatible server."""

    name: str
    """What the server calls it."""
    ids: int
    """How many ids it may emit, those that only pad its embeddings included."""
    server: Server


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is started with, the same on every replica."""

    name: str
    """In :data:`jobs.evaluate.engines.registry.ENGINES`."""
    model: str
    """A local folder, or a name on the hub."""
    revision: str | None
    """The hub's commit; None for a folder."""
    dtype: Literal["float32", "bfloat16", "float16"]
    context_length: int
    vocabulary: int
    """Ids that the tokenizer knows. A model with padded embeddings emits ids beyond; they are masked."""
    gpus: int
    cpus: int
    served: ServedModel | None = None
    """Where the model is, for the engine that does not load it."""
    batch_invariant: bool = False
    """Whether the kernels give the same tokens whatever shares the batch (vLLM on GPUs)."""
    in_flight: int = 128
    """Units that are decoded at once at most."""
    seats: int = 256
    """Requests that there are at most while so many units are decoded: their branches, and what is forked from them."""
    max_num_seqs: int | None = None
    """vLLM's own limit on requests in a step; None: from `seats` and the card."""
    max_num_batched_tokens: int | None = None
    """vLLM's own limit on tokens in a step; None: from the card."""


async def start(spec: EngineSpec) -> Engine:
    """Starts the engine that `spec` names, in this process. Takes from a second to minutes."""
    return await ENGINES[spec.name].start(spec)
