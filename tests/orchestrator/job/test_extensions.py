"""Names of ours and of installed packages: what is found, and what a broken package is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.job.extensions import ExtensionError, ExtensionPoint, lazy
from tests.installed import install

GROUP = "scaling_orchestrator.numbers"


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExtensionPoint[int]:
    points = {"two": "their_numbers:TWO", "word": "their_numbers:WORD", "gone": "their_numbers:GONE", "pi": "math:pi"}
    install(tmp_path, "their_numbers", "TWO = 2\nWORD = 'two'\n", {GROUP: points})
    monkeypatch.syspath_prepend(tmp_path)
    return ExtensionPoint(GROUP, int, {"most": "sys:maxsize", "pi": "sys:maxunicode"})


def test_ours_and_theirs_are_found_by_name(numbers: ExtensionPoint[int]) -> None:
    assert list(numbers) == ["most", "pi", "two", "word", "gone"]
    assert numbers["two"] == 2
    assert "two" in numbers
    assert "three" not in numbers
    with pytest.raises(KeyError):
        numbers["three"]


def test_a_package_cannot_replace_one_of_ours(numbers: ExtensionPoint[int]) -> None:
    assert numbers["pi"] == 0x10FFFF


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("word", "word of the package their_numbers is a str: their_numbers:WORD must be a int"),
        ("gone", "gone of the package their_numbers cannot be loaded: "),
    ],
)
def test_a_broken_package_is_named(numbers: ExtensionPoint[int], name: str, complaint: str) -> None:
    with pytest.raises(ExtensionError, match=complaint):
        numbers[name]


def test_a_lazy_function_imports_its_module_when_it_is_called() -> None:
    missing = lazy("no_such_module:function")
    with pytest.raises(ModuleNotFoundError):
        missing()
    assert lazy("math:hypot")(3, 4) == 5
