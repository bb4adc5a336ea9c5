"""What conftest does to keep make quick short is in force while tests run."""

from __future__ import annotations

import gc

from hypothesis import settings


def test_what_was_imported_is_not_looked_through_for_garbage_and_what_tests_make_is() -> None:
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000


def test_make_quick_takes_fewer_examples_and_differs_in_nothing_else() -> None:
    quick, full = (settings.get_profile(name) for name in ("quick", "any machine"))
    assert quick.max_examples < full.max_examples == 100
    assert (quick.deadline, quick.suppress_health_check) == (full.deadline, full.suppress_health_check)
