"""The names of Ray's placement groups: by them a step's are found again, whoever made them."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ray import PlacementGroupID
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath


def group_prefix(step: StoragePath) -> str:
    """What the names of the groups of a step begin with; `step` is its folder. No other step's do, of any store."""
    return f"{step.name}-{sha256(str(step).encode()).hexdigest()[:16]}"


def remove_groups(prefix: str) -> None:
    """Removes the groups of a process that was killed before it could. Those that others make meanwhile are left."""
    for key, entry in placement_group_table().items():
        if entry["name"].startswith(f"{prefix}-") and entry["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(key))))
