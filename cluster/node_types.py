"""The machines that a cluster file can bring, and whether an experiment's steps can ever be placed on them.

Asked for what no node type has, Ray's autoscaler waits without end; a look at the file tells before anything starts.
The file is named (``plan FILE --cluster cluster/aws.yaml``) rather than found: a plan is made on a laptop too, where no
cluster is reachable, and one that is reachable only says what it has now, not what it could bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Bundle = Mapping[str, float]

LARGEST = 1 << 17
"""Bytes of a cluster file. They have a few thousand."""


class ClusterFileError(Exception):
    """The file names no machines; one line."""


@dataclass(frozen=True)
class NodeType:
    """One kind of machine."""

    name: str
    resources: Bundle
    most: int
    """How many of them there can be."""

    def holds(self, bundle: Bundle) -> int:
        """How many such bundles one machine takes."""
        return min(int(self.resources.get(kind, 0) // amount) for kind, amount in bundle.items() if amount)

    def __str__(self) -> str:
        has = ", ".join(f"{amount:g} {kind}" for kind, amount in self.resources.items() if kind in ("CPU", "GPU"))
        return f"{self.most} x {self.name} ({has})"


def read(file: Path) -> list[NodeType]:
    """The worker types of a cluster file of Ray's, or of KubeRay's. Raises ClusterFileError."""
    try:
        if file.stat().st_size > LARGEST:
            raise ClusterFileError(f"{file}: is not a cluster file: it has more than {LARGEST:,} bytes")
        documents = [each for each in yaml.safe_load_all(file.read_text()) if isinstance(each, dict)]
    except (OSError, UnicodeDecodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise ClusterFileError(f"{file}: is not a cluster file: {str(error).partition(chr(10))[0]}") from None
    try:
        node_types = [each for document in documents for each in (*_launched(document), *_pods(document))]
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ClusterFileError(f"{file}: is not a cluster file of Ray's or KubeRay's ({what}): see cluster/") from None
    if not node_types:
        raise ClusterFileError(f"{file}: has no available_node_types and no workerGroupSpecs: give a cluster file")
    return [each for each in node_types if each.most > 0]


def unplaceable(demands: Sequence[Bundle], types: Sequence[NodeType]) -> str:
    """Why bundles that must all be there at once never will be, in a few words; empty where they can."""
    bundles = {tuple(sorted(demand.items())): demand for demand in demands if any(demand.values())}
    for key, bundle in bundles.items():
        count = sum(tuple(sorted(demand.items())) == key for demand in demands)
        room = sum(each.most * each.holds(bundle) for each in types)
        if room < count:
            asked = ", ".join(f"{amount:g} {kind}" for kind, amount in bundle.items())
            return (
                f"asks for {count} x {{{asked}}} at once, and there is room for {room} on {'; '.join(map(str, types))}"
            )
    return ""


def _launched(document: Mapping[str, Any]) -> list[NodeType]:
    types = document.get("available_node_types") or {}
    head = document.get("head_node_type")
    most = int(document.get("max_workers", 0))
    return [
        NodeType(name, _numbers(each.get("resources") or {}), min(most, int(each.get("max_workers", 0))))
        for name, each in types.items()
        if name != head
    ]


def _pods(document: Mapping[str, Any]) -> list[NodeType]:
    """Of a RayCluster, or of the one inside a RayJob."""
    spec = document.get("spec") or {}
    groups = (spec.get("rayClusterSpec") or spec).get("workerGroupSpecs") or []
    return [NodeType(each["groupName"], _of_pod(each), int(each.get("maxReplicas", 0))) for each in groups]


def _of_pod(group: Mapping[str, Any]) -> Bundle:
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    gpus = sum(int(amount) for kind, amount in limits.items() if kind.endswith("/gpu"))
    return {"CPU": float(limits.get("cpu", 0)), **({"GPU": float(gpus)} if gpus else {})}


def _numbers(resources: Mapping[str, Any]) -> Bundle:
    return {kind: float(amount) for kind, amount in resources.items()}
