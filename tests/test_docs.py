"""Pages name files that exist, link to what is there, and show code that is some; their additions are real ones."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from orchestrator.experiment import load
from orchestrator.yaml_positions import parse
from tests.conftest import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
FILE = re.compile(
    r"(?<![\w/.$~{<-])((?:benchmarks|cluster|docs|experiments|jobs|orchestrator|tests)/[\w./-]*\.(?:py|md|yaml|png))\b"
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings, where the site makes the same: it has no two hyphens side by side."""
    headings = re.findall(r"^#+ +(.+?) *$", page.read_text(), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return {each for each in made if "--" not in each}


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


BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: their languages, and what is in them."""
    return [(language, textwrap.dedent(text)) for _, language, text in BLOCK.findall(page.read_text())]


LANGUAGES = {"yaml", "python", "bash", "toml", "json", "text"}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_every_code_block_is_what_it_says_it_is(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for number, (language, text) in enumerate(blocks(page)):
        assert language in LANGUAGES, (language, text)
        match language:
            case "python":
                compile(text, f"{page.name}, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            case "bash":
                subprocess.run(["bash", "-n"], input=text, text=True, check=True, capture_output=True)
            case "toml":
                tomllib.loads(text)
            case "json":
                json.loads(text)
            case "yaml":
                value = parse(text).value
                if isinstance(value, dict) and {"name", "steps"} <= value.keys():  # a whole experiment: it plans
                    file = tmp_path / f"block-{number}.yaml"
                    file.write_text(text)
                    load(file, contents=False)


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


def test_every_page_is_in_the_site_s_menu_once() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = [page for entry in menu for page in ([entry] if isinstance(entry, str) else next(iter(entry.values())))]
    assert sorted(named) == sorted(["index.md", *(page.name for page in (ROOT / "docs").glob("*.md"))])


def test_the_site_links_to_its_own_pages_alone() -> None:
    site = runpy.run_path(str(ROOT / "docs" / "site.py"))
    pages = {page.name: site["on_page_markdown"](page.read_text()) for page in (ROOT / "docs").glob("*.md")}
    pages["index.md"] = site["first_page"]((ROOT / "README.md").read_text())
    for name, text in pages.items():
        gone = [target for target, _ in LINK.findall(text) if target and not (ROOT / "docs" / target).exists()]
        assert gone == [], name
