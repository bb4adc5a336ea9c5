"""Identity: stable, sensitive to what changes a result, blind to the rest."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fingerprint import canonical, differences, digest_path, fingerprint

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.seconds
@given(st.dictionaries(st.text(), plain))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))


@pytest.mark.seconds
@given(st.dictionaries(st.text(), plain), st.dictionaries(st.text(), plain))
def test_values_that_differ_have_differences_and_other_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = canonical(one) == canonical(other)
    assert (fingerprint(one) == fingerprint(other)) == same
    assert (list(differences(one, other)) == []) == same


@pytest.mark.parametrize("value", [object(), print, math.nan, math.inf, {1: 2}, {"a": [b"bytes"]}, {"a": {1, 2}}])
def test_what_has_no_canonical_form_is_an_error(value: object) -> None:
    with pytest.raises(TypeError, match="canonical form"):
        canonical({"field": value})


def test_the_place_of_the_value_is_named() -> None:
    with pytest.raises(TypeError, match=r"a\.b\[1\]: a object has no canonical form"):
        canonical({"a": {"b": [1, object()]}})


def test_differences_name_the_fields() -> None:
    before = {"config": {"train": 1, "test": 2}, "version": 1}
    after = {"config": {"train": 5, "test": 2, "seed": 0}, "version": 1}
    assert list(differences(before, after)) == [("config.seed", None, 0), ("config.train", 1, 5)]


def test_a_folder_is_identified_by_names_and_contents(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a").write_text("content")
    assert digest_path(one) == digest_path(other)
    (other / "sub" / "a").write_text("Content")
    changed = digest_path(other)
    assert changed != digest_path(one)
    (one / "sub" / "a").rename(one / "sub" / "b")
    assert digest_path(one) not in (changed, digest_path(other))
