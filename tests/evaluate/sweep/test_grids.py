"""Whole experiment files at random: every kind of policy, under every style of thinking, against the oracle.

A grid is written as a user writes it, under the keys of the kinds, and goes the way of a sweep: policies, the chat
template's prompts, the delimiters of the style as the tokenizer has them, a tree for each root. A kind or a style that
is added is asked for here by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.decode.walker import Walker
from jobs.evaluate.engines.protocol import Sampling
from jobs.evaluate.sweep.chat_template import Instructions
from jobs.evaluate.sweep.kinds import KINDS
from jobs.evaluate.sweep.policy import walked
from jobs.evaluate.sweep.prompts import Prompter, Unit, room, unit_key
from jobs.evaluate.sweep.roots import by_root
from jobs.evaluate.sweep.tree import Tree, grow, leaf
from jobs.evaluate.traces.segments import Segment, Trace
from jobs.template import TEMPLATES
from tests.evaluate.families import FAMILIES, Family
from tests.evaluate.oracle import alone
from tests.evaluate.scripted import Script, ScriptedEngine
from tests.evaluate.searching import SEARCHES

STEP = "<step>\n"
EFFORT = "{% if reasoning_effort is defined %}[{{ reasoning_effort }}]{% endif %}"
"""Before a family's chat template, so that each knows efforts."""
TEXTS = ("a", "ab", "\n", "b a", "€", "Wait")
LETTERS = "ab \nW€"


def some(values: Sequence[Any], most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


BUDGETS = st.lists(st.integers(1, 24) | st.just("auto"), min_size=1, max_size=4, unique=True)
GIVEN: dict[str, st.SearchStrategy[Any]] = {
    "budgets": BUDGETS,
    "extensions": st.fixed_dictionaries(
        {"strings": some(["Wait", "", "a\n"], 2), "counts": some([1, 2, 3], 2), "budgets": BUDGETS}
    ),
    "step_budgets": some([1, 2, 4]),
    "stop_strings": some(TEXTS),
    "baseline": st.just(True),
    "efforts": some(["low", "high"]),
    "conditional": st.fixed_dictionaries(
        {"tokens": some([4, 16]), "steps": some([1, 3]), "classes": some(["short", "long"])},
        optional={"budget_forcing": st.booleans()},
    ),
    "rejection": st.fixed_dictionaries({"limits": some([3, 9, 30]), "max_tries": st.integers(1, 4)}),
    "ban": some(("b", "bW", "€", "W b")),
    "closings": some(["", "So:", "Time is up.\n{close}\n", "Time is up, so I answer now.\n{close}\n", "{close} "]),
    "stopping": st.just(
        [{"rule": "oracle", "every": 3, "until": 9}, {"rule": "convergence", "agree": [2, 3], "every": 5, "until": 20}]
    ),
}
"""What an experiment file may have under each key."""
GRIDS = st.fixed_dictionaries({}, optional=GIVEN).filter(bool)
TRACES = st.lists(st.tuples(st.integers(0, 2**20), st.integers(-1, 40)), min_size=2, max_size=2)
"""Of each grid: what the model writes by, and the tokens that the context leaves to thinking."""


def test_every_kind_of_policy_is_drawn_here_or_searched_against_the_oracle_of_searches() -> None:
    searches = {name for name in KINDS.ours if KINDS[name].searches}
    assert GIVEN.keys() | searches == set(KINDS.ours)
    assert not GIVEN.keys() & searches
    assert SEARCHES.keys() == searches


@dataclass(frozen=True)
class Writing(Script):
    """Words, and often what closes thinking or heads a step, or begins to."""

    words: tuple[int, ...] = ()
    close: tuple[int, ...] = ()
    step: tuple[int, ...] = ()

    def next(self, prefix: Sequence[int], stop: Sequence[int], forbid_stop: bool, forbidden: Sequence[int] = ()) -> int:
        key, said = self.seed.to_bytes(8, "little"), array("i", prefix).tobytes()
        begun = {
            whole[n]: n
            for whole in (self.step, self.close)
            for n in range(1, len(whole))
            if prefix[-1] == whole[n - 1] and tuple(prefix[-n:]) == whole[:n]
        }
        for place in itertools.count():
            chance, goes_on, which, _ = hashlib.blake2b(said + bytes(place), digest_size=4, key=key).digest()
            token = self.words[which % len(self.words)]
            if begun and not place and goes_on < 230:
                token = max(begun, key=lambda token: begun[token])
            elif chance < self.stop_share:
                token = (*stop, self.close[0])[which % (len(stop) + 1)]
            if token not in forbidden and not (forbid_stop and token in stop):
                return token
        raise AssertionError("there is always another")


def family_of(style: str) -> Family:
    return next(family for family in FAMILIES.values() if family.style == style)


def prompter_of(style: str) -> Prompter:
    family = family_of(style)
    fast = family.tokenizer()
    fast.add_tokens([AddedToken(STEP.strip(), special=True, normalized=False)])
    fast.chat_template = EFFORT + family.chat_template
    template = EvaluateConfig.model_validate_json(json.dumps(sweep_of(style, {}))).template.style
    return Prompter(fast, template, [fast.eos_token_id], Instructions(family.system, family.switches))


def sweep_of(style: str, grid: dict[str, Any]) -> dict[str, Any]:
    common = {"model": "org/m", "tasks": ["letters"], "temperature": 1.0, "samples": 4}
    return common | {"template": {"name": style, "step": STEP}} | grid


def may_switch_off(prompter: Prompter) -> bool:
    return bool(prompter.switches & {"enable_thinking", "thinking"})


@pytest.mark.seconds
@pytest.mark.parametrize("style", list(TEMPLATES.ours))
def test_leaves_of_any_grid_are_those_of_its_policies_alone(style: str) -> None:
    prompter = prompter_of(style)
    close, end = prompter._ids(prompter.template.close), prompter._end_of_turn
    words = tuple(dict.fromkeys((*prompter._ids(LETTERS), *prompter._ids(STEP), *close[1:2])))
    roots = set[bool]()

    @settings(max_examples=20, phases=[Phase.generate])  # a grid is small, and shrinking one takes minutes
    @given(GRIDS, TRACES, st.sampled_from([0, 16, 48]), st.integers(1, 5))
    def check(grid: dict[str, Any], traces: list[tuple[int, int]], stop_share: int, chunk: int) -> None:
        if "efforts" in grid and may_switch_off(prompter):
            grid["efforts"] = [*grid["efforts"], "none"]
        config = EvaluateConfig.model_validate_json(json.dumps(sweep_of(style, grid)))
        policies = walked(config.policies)
        forcing = prompter.forcing(policies)
        written = tuple(token for token in words if token not in end)
        for (root, members), (seed, left) in itertools.product(by_root(policies, prompter).items(), traces):
            script = Writing(seed, stop_share, written, close, forcing.step)
            context_length = len(prompter.prompt("1+1?")) + forcing.reserve + 5 + left
            prompt = prompter.prompt("1+1?", root)
            of_item = room(prompt, context_length, forcing, 5)
            unit = Unit(unit_key("q", prompt, root.banned), 0, prompt, of_item, 0, root.banned, root.thinks)
            tree: Tree = grow(
                members,
                {string: len(ids) for string, ids in forcing.injected.items()},
                len(forcing.step),
                forcing.longer,
            )
            trace, kept = Trace(unit, forcing), list[Segment]()
            walker = Walker(ScriptedEngine(script, chunk), tree, forcing, Sampling(), 0, kept.append)
            asyncio.run(walker.walk(unit, trace))
            for policy in members:
                expected = alone(policy, unit, script, forcing)
                got = leaf(tree, policy, of_item, trace.extent)
                answer = () if got.answer is None else tuple(trace.tokens(got.answer))[: got.answer_tokens]
                assert (got.thinking_tokens, got.injected_tokens) == (len(expected.thinking), expected.injected)
                assert (got.thinking_end, got.answer_end) == (expected.thinking_end, expected.answer_end)
                assert (got.extensions_used, got.extensions_skipped) == (expected.used, expected.skipped)
                assert answer == expected.answer
            roots.add(root.thinks)

    check()
    assert roots == ({True, False} if may_switch_off(prompter) else {True})
