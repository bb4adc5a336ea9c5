"""What a job declares: the fields of its steps, which of them are identity, what it makes and what it takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from cluster.catalogue import CPU, MachineType, machine, names, this_machine
from orchestrator.job.outputs import Output
from orchestrator.job.resources import DEFAULT_GPU, Resources
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Problem:
    """Something wrong with a config that its types cannot say, at a field: ("tasks", 0, "path")."""

    field: tuple[str | int, ...]
    message: str


@dataclass(frozen=True)
class HubName:
    """A model or a dataset on Hugging Face's hub that a config names, at a field."""

    field: tuple[str | int, ...]
    kind: Literal["model", "dataset"]
    name: str
    revision: str | None = None


@dataclass(frozen=True)
class Upcoming:
    """A step that another one takes, as a plan knows it: perhaps not run yet."""

    config: StepConfig
    output: Path | None
    """The folder that its job wrote; None until it is done."""
    forecast: object | None = None
    """What it will have made, as far as its kind can tell (:mod:`jobs.forecasts`)."""


class StepConfig(StrictModel):
    """The fields of one step in an experiment file. Subclassed once per job kind."""

    VERSION: ClassVar[int]
    """Raised when the same config gives another result than before: results of older versions are then recomputed."""
    PRODUCES: ClassVar[type[Output]]
    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Keys of before whose names do not resemble those of now, for whoever still writes them."""

    resources: Resources = Resources()

    @classmethod
    def reading(cls, keys: Iterable[str]) -> type[Self]:
        """The class that reads a step with `keys`: this one, or one with the fields that installed packages add."""
        return cls

    def demands(self) -> list[dict[str, float]]:
        """The resources held at once, one dict per placement-group bundle: ``[{"CPU": 1.0}, {"CPU": 1.0}]``."""
        return [{"CPU": 1.0}]

    def bundles(self) -> list[dict[str, float]]:
        """All that must find room on one machine each, at one time or another."""
        return self.demands()

    @property
    def machine(self) -> MachineType:
        """What the step is reckoned to run on: where nothing else is said and no cluster is named, this machine's
        cores."""
        if self.resources.machine:
            return machine(self.resources.machine)
        if any(bundle.get("GPU") for bundle in self.demands()):
            return machine(DEFAULT_GPU)
        return machine(CPU) if os.environ.get("RAY_ADDRESS") else this_machine()

    def too_large(self) -> str | None:
        """What no machine of the kind that it is reckoned to run on can hold, in words; None where there is nothing."""
        kind = self.machine
        bundle = next((bundle for bundle in self.bundles() if not kind.holds(bundle)), None)
        if bundle is None:
            return None
        largest = kind.types[-1] if kind.whole else max(kind.types, key=lambda each: (each.cards, each.cpus))
        has = ", ".join(f"{amount:g} {name}" for name, amount in largest.resources.items())
        asked = ", ".join(f"{amount:g} {name}" for name, amount in bundle.items())
        able = [each for name in names() if (each := machine(name)).whole and each.holds(bundle)]
        alike = [each.name for each in able if each.card == kind.card] or [each.name for each in able]
        offer = f"take {' or '.join(alike)}, or ask for less" if alike else "ask for less"
        return f"{largest.name} has {has}, and {asked} must be on one machine: {offer}"

    def devices(self, bundle: Mapping[str, float]) -> float:
        """What is paid for of a placement-group bundle."""
        return bundle.get("CPU" if self.machine.device == "core" else "GPU", 0.0)

    def holds(self) -> float:
        """Devices that are paid for from start to end: all that it demands. 0 where the step says what it holds."""
        return sum(self.devices(bundle) for bundle in self.demands())

    def holds_at_most(self) -> float:
        """Devices that it may come to hold at once."""
        return sum(self.devices(bundle) for bundle in self.demands())

    def charged(self) -> bool:
        """Whether a server charges for what the step asks of it: such steps share what ``max_cost`` leaves by turns."""
        return False

    def unlimited(self) -> Iterator[Problem]:
        """Why ``max_cost`` could not be kept to; asked only where there is one."""
        yield from ()

    def notes(self) -> list[str]:
        """What was understood other than written ("budgets sorted"), one line each."""
        return []

    def grades_on_cluster(self) -> bool:
        """Whether grading the finished step again needs the cluster: a model that judges, for one."""
        return False

    def problems(self, contents: bool = True) -> Iterator[Problem]:
        """Checks that need the file system and nothing heavy: files that are not there, or are not what they should be.

        With `contents`, all of the user's own tasks and data is read, so that nothing is found in them after what came
        before was paid for. Whoever only looks at what was done goes without.
        """
        return iter(())

    def hub_names(self) -> Iterator[HubName]:
        """What it takes from Hugging Face's hub."""
        return iter(())

    def hub_problems(self) -> Iterator[Problem]:
        """Checks of what it takes from the hub, which is downloaded for them: asked of steps that would run."""
        return iter(())

    def external_inputs(self) -> Mapping[str, Path]:
        """Local files and folders that the result depends on, by field: their content enters the fingerprint."""
        return {}

    def describe(self) -> str:
        """A few words for the plan: ``17 policies x 200 items``."""
        return ""
