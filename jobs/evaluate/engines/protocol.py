"""What decodes: one small protocol, and one module per library behind it.

An engine streams token ids for a :class:`Request`. It knows nothing of budgets, branches or policies; those are made of
requests (see ``walker``). Which engines there are is said in ``registry``; each is started by a function of its own
module, which imports its library itself, so that choosing one engine never loads another.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Literal, NamedTuple, Protocol

from jobs.evaluate.adapter import Adapter
from jobs.evaluate.engines.registry import ENGINES
from jobs.evaluate.engines.server import Server


class EngineError(Exception):
    """The engine failed, or did something no engine may do. Its replica cannot be relied on any more."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, in this order, which is vLLM's: penalties, temperature, min_p, top_k, top_p."""

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    min_p: float = 0.0
    """Of the likeliest token's probability."""
    presence_penalty: float = 0.0
    """Taken from the logits of tokens that the trace has."""
    frequency_penalty: float = 0.0
    """Taken as often as the trace has them."""
    repetition_penalty: float = 1.0
    """By which logits are divided, or multiplied where they are negative, of tokens of the prompt or the trace."""

    @property
    def penalizes(self) -> bool:
        """Whether what was written before changes what follows."""
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)

    @property
    def counts_written(self) -> bool:
        """Whether it matters what of the prompt is the trace's own."""
        return bool(self.presence_penalty or self.frequency_penalty)

    @property
    def identity(self) -> dict[str, float]:
        """What of it determines a trace: temperature and top_p, and the others where they change something."""
        usual = asdict(Sampling())
        return {
            name: value
            for name, value in asdict(self).items()
            if name in ("temperature", "top_p") or value != usual[name]
        }


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
    given: int | None = None
    """How many of the prompt's tokens were given; what follows is the trace's own, forced tokens included, and
    penalties count it as written, whichever piece wrote it. None: all of them."""
    seed: int = 0
    """Names the stream of random numbers, in 0 … 2**62. It is of one piece, and no other piece has it."""
    position: int = 0
    """How many tokens of the piece came before. Random numbers are by (seed, position), so that one that is continued
    draws what it would have drawn undisturbed: if it drew anew, those that were about to be long would have a second
    chance to be short, while the short ones were kept."""
    priority: int = 0
    """Lower goes first when not all requests fit."""
    beliefs: bool = False
    """Whether each token comes with its :class:`Belief`. Engines that cannot are asked for neither."""
    among: tuple[int, ...] = ()
    """Ids of which it is said, with each token, how likely they were in its place: :attr:`Chunk.chances`. A request
    with some gives no beliefs."""

    @property
    def written(self) -> tuple[int, ...]:
        """The tokens of the trace that are there already."""
        return () if self.given is None else self.prompt[self.given :]

    def after(self, decoded: Sequence[int]) -> Request:
        """What is left of it once `decoded` is there."""
        return replace(
            self,
            prompt=(*self.prompt, *decoded),
            max_tokens=self.max_tokens - len(decoded),
            forbid_stop_first=self.forbid_stop_first and not decoded,
            position=self.position + len(decoded),
        )

    @property
    def generator_seed(self) -> int:
        """For servers that seed a generator per request: a continued piece has to draw anew there, because the same
        seed would give it the numbers that its first tokens were drawn with."""
        return hash((self.seed, self.position)) & (2**63 - 1)


class Belief(NamedTuple):
    """How sure the model was where it wrote a token, by its own distribution: before temperature and penalties."""

    logprob: float
    """Of the token."""
    confidence: float
    """The mean negative log-probability of the :data:`LIKELIEST` tokens: high where only one has a chance."""
    entropy: float
    """In nats, of the :data:`LIKELIEST` tokens and all others taken as one."""


LIKELIEST = 20
"""As many as vLLM gives unasked, and DeepConf takes."""


class Chunk(NamedTuple):
    """Tokens as they come. The last chunk of a request has an end; it may be empty."""

    tokens: list[int]
    end: Literal["stop", "length"] | None = None
    beliefs: Sequence[Belief] = ()
    """Of each token, where the request asks for them."""
    chances: Sequence[tuple[float, ...]] = ()
    """Of each token, the logarithms of the chances of the ids :attr:`Request.among`, but for a constant that they have
    in common: whether ids that only pad embeddings have a part in it."""

    def first(self, count: int, end: Literal["stop", "length"] | None = None) -> Chunk:
        """Its first tokens."""
        return Chunk(self.tokens[:count], end, self.beliefs[:count])


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
    counts_written: bool = False
    """Whether requests will have presence or frequency penalties."""
    in_flight: int = 128
    """Units that are decoded at once at most."""
    seats: int = 256
    """Requests that there are at most while so many units are decoded: their branches, and what is forked from them."""
    memory: float | None = None
    """Share of each card's memory that vLLM takes; None: its own default."""
    first_gpu: int = 0
    """Of the replica's cards, the first that is its own."""
    max_num_seqs: int | None = None
    """vLLM's own limit on requests in a step; None: from `seats` and the card."""
    max_num_batched_tokens: int | None = None
    """vLLM's own limit on tokens in a step; None: from the card."""
    adapter: Adapter | None = None
    """What is laid on the model's weights."""


async def start(spec: EngineSpec) -> Engine:
    """Starts the engine that `spec` names, in this process. Takes from a second to minutes."""
    with own_cards(spec):
        return await ENGINES[spec.name].start(spec)


@contextmanager
def own_cards(spec: EngineSpec) -> Iterator[None]:
    """Processes that are started meanwhile see the cards of `spec` alone: a replica's, or its scorer's besides."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    cards = given.split(",") if given else []
    if len(cards) <= spec.gpus or not spec.gpus:
        yield
        return
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards[spec.first_gpu : spec.first_gpu + spec.gpus])
    try:
        yield
    finally:
        os.environ["CUDA_VISIBLE_DEVICES"] = given
