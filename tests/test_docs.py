"""Pages name files that exist, and link to what is there; examples of additions are as the code takes them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
FILE = re.compile(
    r"(?<![\w/.$~{<-])((?:benchmarks|cluster|docs|experiments|jobs|orchestrator|tests)/[\w./-]*\.(?:py|md|yaml|png))\b"
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    missing = {name for name in FILE.findall(text) if not (ROOT / name).exists()}
    for target, anchor in LINK.findall(text):
        linked = page.parent / target if target else page
        if not linked.exists():
            missing.add(target)
        elif anchor and linked.suffix == ".md" and anchor not in anchors(linked):
            missing.add(f"{target}#{anchor}")
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_a_thing_under_one_heading(page: Path) -> None:
    headings = re.findall(r"^## +(.+?) *$", page.read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))


EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
RECORDS = re.compile(r"^([A-Z_]+) = (\w+)\(", re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: RECORDS.search(example)[2])
def test_an_example_of_an_addition_makes_its_record(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_package")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(example, module.__dict__)
    for name, kind in RECORDS.findall(example):
        assert type(getattr(module, name)).__name__ == kind
