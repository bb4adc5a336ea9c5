"""The engines that an experiment file can name: one record each, of what it is and can do. Light.

Whatever checks, plans, starts or records an engine asks its record. Installed packages add theirs by the entry points
of ``scaling_orchestrator.engines``. The function that starts one is given as ``lazy``: every experiment file is checked
against the records before torch, vllm or transformers is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from orchestrator.job.extensions import ExtensionPoint, known, lazy

if TYPE_CHECKING:
    from jobs.evaluate.engines.protocol import Engine, EngineSpec


@dataclass(frozen=True)
class Program:
    """What an engine takes beside the model's work, in seconds: for plans."""

    start: float
    """Until its first token: loading, compiling."""
    step: float
    """Of a step of decoding, at least."""
    sequence: float
    """Of a step, for each sequence in it."""


@dataclass(frozen=True)
class EngineKind:
    """What can decode, and what it can do."""

    start: Callable[[EngineSpec], Awaitable[Engine]]
    """Starts it in the calling process. Takes from a second to minutes. Raises EngineError."""
    library: str = ""
    """The module whose ``__version__`` is kept with every trace; empty where a server decodes."""
    on_cpus: Program | None = None
    """None: it does not run on CPUs."""
    on_gpus: Program | None = None
    """None: it does not run on GPUs."""
    splits: bool = False
    """Whether it splits a model over several GPUs."""
    sampling: frozenset[str] = frozenset()
    """What it can do beyond temperature and top_p: fields of :class:`jobs.evaluate.engines.protocol.Sampling`. Its
    penalties count the whole trace: see :attr:`jobs.evaluate.engines.protocol.Request.given`."""
    likelihoods: bool = False
    """Whether it says how likely tokens were: :attr:`jobs.evaluate.engines.protocol.Request.beliefs`, ``among``."""
    adapters: bool = False
    """Whether it takes a LoRA adapter on its model."""
    batch_invariant: bool = False
    """Whether, on GPUs, it can be told to give the same tokens whatever shares a batch."""

    @property
    def served(self) -> bool:
        """Whether the model is on a server, which has the devices: the step says where it is and what it is called."""
        return self.on_cpus is None and self.on_gpus is None


CUTS = frozenset({"top_k", "min_p"})
PENALTIES = frozenset({"presence_penalty", "frequency_penalty", "repetition_penalty"})

ENGINES: ExtensionPoint[EngineKind] = ExtensionPoint(
    "scaling_orchestrator.engines",
    EngineKind,
    {
        # On CPUs measured on two cores with a model of a third of a million parameters; on GPUs not measured.
        "transformers": EngineKind(
            start=lazy("jobs.evaluate.engines.transformers:start"),
            library="transformers",
            on_cpus=Program(8, 0.004, 0.3e-3),
            on_gpus=Program(60, 0.03, 0.02e-3),
            sampling=CUTS | PENALTIES,
            likelihoods=True,
            adapters=True,
        ),
        "vllm": EngineKind(
            start=lazy("jobs.evaluate.engines.vllm:start"),
            library="vllm",
            on_cpus=Program(45, 0.004, 0.2e-3),
            on_gpus=Program(120, 0.003, 0.02e-3),
            splits=True,
            sampling=CUTS | PENALTIES,
            likelihoods=True,
            adapters=True,
            batch_invariant=True,
        ),
        # A server's presence and frequency penalties count a request, and a trace is written by several.
        "openai": EngineKind(start=lazy("jobs.evaluate.engines.openai:start"), sampling=CUTS | {"repetition_penalty"}),
    },
)
"""By the names that experiment files have for them."""

AUTO = "auto"

EngineName = Annotated[str, known(ENGINES, AUTO)]
"""As a field of a config."""


def gpus_problem(name: str, gpus: int) -> str | None:
    """What is wrong with so many GPUs of a replica for the engine `name`, and what to do; None where nothing is."""
    kind = ENGINES[chosen(name, gpus)]
    if kind.served:
        return f"{gpus} would idle: with engine {name} the server has them" if gpus else None
    if gpus and kind.on_gpus is None:
        return f"{gpus} would idle: engine {name} runs on CPUs alone"
    if not gpus and kind.on_cpus is None:
        return f"{gpus} are too few: engine {name} runs on GPUs alone"
    if gpus > 1 and not kind.splits:
        return f"{gpus} are too many: engine {name} does not split a model, so give each replica 1, or take vllm"
    return None


def chosen(name: str, gpus: int) -> str:
    """The engine that `name` stands for, on so many GPUs of a replica."""
    if name != AUTO:
        return name
    return "vllm" if gpus else "transformers"
