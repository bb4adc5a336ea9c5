"""Text of users and models is shown: no markup parser reads it, and no terminal obeys it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from orchestrator import markdown_view
from orchestrator.__main__ import main
from orchestrator.display import Display, PlainConsole, show_table
from orchestrator.results_view import served
from orchestrator.terminal import one_line, plain

MARKUP = ["[/THINK]", "[red]", "[red]x[/red]", ":smile:", "[link=http://x]y[/link]", "[bold", "\\[x]", "[@click=x]y[/]"]
COMMANDS = [
    "\x1b[31m",
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x1b]52;c;aGk=\x1b\\",
    "\x1b]8;;http://evil\x1b\\",
    "\x9b31m",
    "\x9d0;t\x9c",
    "\x1bP$q\x1b\\",
    "\x1bc",
    "\u202e",
    "\r",
    "\x07",
    "\x08",
]


def terminal() -> tuple[PlainConsole, io.StringIO]:
    out = io.StringIO()
    return PlainConsole(file=out, force_terminal=True, width=100, color_system=None, highlight=False), out


@given(st.text())
def test_plain_text_has_nothing_that_a_terminal_obeys_and_loses_no_letter(text: str) -> None:
    shown = plain(f"a\x1b]0;title\x07b\x9b31m{text}")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert shown.startswith("ab")
    assert plain(shown) == shown
    assert len(one_line(text, 20)) <= 40
    assert "\n" not in one_line(text, 20)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("text", MARKUP)
def test_markup_is_text_wherever_it_is_printed(text: str) -> None:
    out, written = terminal()
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    show_table(table, out)
    out.print(text)
    with Display(out) as display:
        display.say(text)
        display.started("s", text, 0)
        display.progress("s", 1, 2, text)
        display.failed("s", text, [text])
    assert written.getvalue().count(text) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_a_terminals_commands_are_left_out_wherever_they_are_printed(command: str) -> None:
    out, written = terminal()
    table = Table(f"a{command}b")
    table.add_row(f"c{command}d")
    show_table(table, out)
    out.print(f"e{command}f")
    assert all(pair in written.getvalue() for pair in ("ab", "cd", "ef"))
    assert command not in written.getvalue()


@pytest.mark.seconds
@pytest.mark.parametrize("text", [*MARKUP, *(f"a{command}b" for command in COMMANDS)])
@pytest.mark.parametrize("verb", ["plan", "status"])
def test_an_extension_string_may_be_any_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, text: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sweep = {
        "job": "evaluate",
        "model": "Qwen/Qwen2.5-0.5B-Instruct",
        "tasks": ["letters"],
        "extensions": {"strings": [text], "counts": [1]},
    }
    (tmp_path / "x.yaml").write_text(json.dumps({"name": "x", "store": f"{tmp_path}/runs", "steps": {"s": sweep}}))
    result = CliRunner().invoke(main, [verb, str(tmp_path / "x.yaml")])
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    if verb == "plan" and text in MARKUP[:-1] and "\\" not in text:
        assert f'1x"{text}"' in result.output, result.output


def test_a_table_is_drawn_on_a_terminal_and_left_for_grep_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = '## mine\n\n| policy | accuracy |\n|---|---|\n| 1x"[red]" | 50% |\n'
    markdown_view.show(source)
    assert capsys.readouterr().out == f"{source}\n"
    out, written = terminal()
    monkeypatch.setattr(markdown_view, "console", lambda: out)
    markdown_view.show(source)
    assert "|---" not in written.getvalue()
    assert re.search(r'1x"\[red\]"\s+50%', written.getvalue()), written.getvalue()


@pytest.mark.parametrize(
    ("tracking", "hint"),
    [
        ("sqlite:////a b/mlflow.db", " (after: mlflow ui --backend-store-uri 'sqlite:////a b/mlflow.db')"),
        ("http://127.0.0.1:5000", ""),
        ("https://me:secret@host", ""),
        ("postgresql://me:secret@host/d", " (after: mlflow ui --backend-store-uri postgresql://host/d)"),
    ],
)
def test_the_hint_after_a_run_is_a_command_that_works_anywhere(tracking: str, hint: str) -> None:
    assert served(tracking) == hint
