from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.evaluate.sweep.curves import curves
from jobs.evaluate.sweep.policies.baseline import Baseline
from jobs.evaluate.sweep.policies.budgets import Budget
from jobs.evaluate.sweep.policies.conditional import conditional
from jobs.evaluate.sweep.policies.extensions import grid
from jobs.evaluate.sweep.policies.rejection import RejectionSampling
from jobs.evaluate.sweep.policies.step_budgets import StepBudget
from jobs.evaluate.sweep.policy import Route, Wish

BUDGETS = st.lists(st.one_of(st.none(), st.integers(1, 9)), min_size=1)
STRINGS = st.lists(st.sampled_from(["Wait", "Wait in 9", "pass@k", '"Wait"', "", "nothing", "budget"]))
COUNTS = st.lists(st.integers(1, 6))


def test_a_grid_is_budgets_then_each_string_at_each_count() -> None:
    policies = grid([32, 8, None], ["Wait", ""], [2, 1])
    assert [policy.name for policy in policies] == ["8", "32", "auto", '1x"Wait"', '2x"Wait"', '1x""', '2x""']


def test_extensions_are_tried_within_each_of_their_budgets() -> None:
    policies = grid([None], ["Wait"], [2], [None, 2048])
    assert [policy.name for policy in policies] == ["auto", '2x"Wait" in 2048', '2x"Wait"']


@given(BUDGETS, STRINGS, COUNTS, BUDGETS)
def test_a_grid_has_no_policy_twice_and_names_tell_them_apart(
    budgets: list[int | None], strings: list[str], counts: list[int], within: list[int | None]
) -> None:
    policies = grid(budgets, strings, counts, within)
    assert len({policy.name for policy in policies}) == len(set(policies)) == len(policies)


@given(BUDGETS, STRINGS, COUNTS, BUDGETS)
def test_order_and_repetition_do_not_change_a_grid(
    budgets: list[int | None], strings: list[str], counts: list[int], within: list[int | None]
) -> None:
    assert grid(budgets * 2, strings * 2, counts[::-1] * 2, within[::-1]) == grid(budgets, strings, counts, within)


def test_curves_run_over_budgets_and_over_counts() -> None:
    found = curves(grid([32, 8, None], ["Wait", ""], [4, 1]))
    assert {curve.name: [point.name for point in curve.points] for curve in found} == {
        "budget": ["8", "32", "auto"],
        "Wait": ["auto", '1x"Wait"', '4x"Wait"'],
        "nothing": ["auto", '1x""', '4x""'],
    }


def test_an_extension_curve_starts_without_extension_where_that_was_measured() -> None:
    found = curves(grid([64], ["Wait"], [1], [None, 64]))
    assert [(curve.name, [point.name for point in curve.points]) for curve in found] == [
        ("budget", ["64"]),
        ("Wait in 64", ["64", '1x"Wait" in 64']),
        ("Wait", ['1x"Wait"']),
    ]


@given(BUDGETS, STRINGS, COUNTS, BUDGETS)
def test_every_policy_is_on_a_curve_and_curves_have_names_of_their_own(
    budgets: list[int | None], strings: list[str], counts: list[int], within: list[int | None]
) -> None:
    policies = grid(budgets, strings, counts, within)
    found = curves(policies)
    assert {point for curve in found for point in curve.points} == set(policies)
    names = [curve.name for curve in found]
    assert len(set(names)) == len(names)


def test_policies_of_one_budget_alone_are_one_point() -> None:
    assert [curve.points for curve in curves([Budget(8)])] == [(Budget(8),)]


def test_other_methods_have_curves_of_their_own_named_by_method() -> None:
    wishes = [Wish("token", 1024), Wish("token", 2048), Wish("step", 16), Wish("class", "short")]
    policies = (*grid([None]), StepBudget(2), StepBudget(8), Baseline())
    policies += (*conditional(wishes, True, headers=True), RejectionSampling(64, 8), RejectionSampling(512, 8))
    found = {curve.name: [point.setting for point in curve.points] for curve in curves(policies)}
    assert found == {
        "budget": ["auto"],
        "step budget": ["2", "8"],
        "no forcing": ["auto"],
        "token-conditional": ["1024", "2048"],
        "step-conditional": ["16"],
        "class-conditional": ["short"],
        "token-conditional + budget forcing": ["1024", "2048"],
        "step-conditional + budget forcing": ["16"],
        "class-conditional + budget forcing": ["short"],
        "rejection sampling": ["64", "512"],
    }
    assert len({policy.name for policy in policies}) == len(policies)
    assert "token-conditional 2048 + budget forcing" in {policy.name for policy in policies}


def test_a_wish_for_tokens_is_enforced_as_a_budget_of_as_many() -> None:
    alone, enforced = conditional([Wish("token", 1024)], True)
    assert (alone.route, enforced.route) == (Route(closing=None), Route(1024))
    assert alone.asked == enforced.asked == 1024
    assert conditional([Wish("token", 1024)], False) == (alone,)


def test_wishes_are_sentences() -> None:
    wishes = [Wish("token", 1024), Wish("step", 16), Wish("class", "long")]
    assert [wish.sentence for wish in wishes] == [
        "Think for up to 1024 tokens.",
        "Think for up to 16 steps.",
        "Think for a long time.",
    ]


def test_strings_that_read_like_a_method_are_told_from_it() -> None:
    strings = ["no forcing", "step budget", "rejection sampling", "token-conditional", "Wait"]
    policies = (
        *grid([None], strings, [1]),
        Baseline(),
        StepBudget(2),
        RejectionSampling(8, 2),
        *conditional([Wish("token", 8)], True),
    )
    names = [curve.name for curve in curves(policies)]
    assert len(set(names)) == len(names)
    assert '"no forcing"' in names
