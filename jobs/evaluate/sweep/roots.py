"""Which policies share a tree: those whose prompts are the same, and which are searched in the same steps."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.evaluate.sweep.opening import ASKED
from jobs.evaluate.sweep.policy import Policy, Root
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.sweep.steps import Steps
from orchestrator.job.errors import StepError


def by_root(policies: Sequence[Policy], prompter: Prompter) -> dict[Root, list[Policy]]:
    """The policies of each tree: of roots that make the same prompt, as the effort does that a model takes unasked, the
    first stands for all. Raises StepError for two efforts that do."""
    first: dict[tuple[tuple[int, ...], tuple[str, ...], Steps | None], Root] = {}
    trees: dict[Root, list[Policy]] = {}
    for policy in policies:
        root = policy.root
        if root not in trees:
            same = first.setdefault((prompter.prompt(ASKED, root), root.banned, root.steps), root)
            if same.effort is not None and root.effort is not None and same != root:
                raise StepError(
                    f"efforts: {same.effort} and {root.effort} make the same prompt with the model's chat template: "
                    "leave one out"
                )
            trees[root] = trees.setdefault(same, [])
        trees[root].append(policy)
    return {root: trees[root] for root in first.values()}
