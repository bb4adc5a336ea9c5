"""Every row of docs/models.md: its prompt, what ``auto`` finds, its switch, and where its thinking ends."""

from __future__ import annotations

import asyncio
import re

import pytest

from jobs.evaluate.decode.closes import thinking_stream
from jobs.evaluate.engines.protocol import Request
from jobs.evaluate.fields import Template
from jobs.evaluate.sweep.chat_template import DATE, Instructions
from jobs.evaluate.sweep.policy import FINAL_ANSWER
from jobs.evaluate.sweep.prompts import Prompter
from orchestrator.job.errors import StepError
from tests.conftest import ROOT
from tests.evaluate.families import FAMILIES, Family
from tests.evaluate.sweep.test_close_search import Teller

TABLE = (ROOT / "docs" / "models.md").read_text()
rows = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def prompter(family: Family, style: object = None, switched: bool = True) -> Prompter:
    template = Template.model_validate(family.style if style is None else style).style
    fast = family.tokenizer()
    said = Instructions(family.system, family.switches if switched else {})
    return Prompter(fast, template, [fast.eos_token_id], said)


@rows
def test_the_prompt_ends_inside_open_thinking(family: Family) -> None:
    model = prompter(family)
    text = model.text(model.prompt("1+1?"))
    assert text.partition("1+1?")[2].endswith(family.ends)
    assert text.count(model.template.open.strip()) == 1
    assert "Today" not in text or str(DATE.year) in text
    assert family.system is None or family.system in text


@rows
def test_auto_finds_the_style_or_says_what_it_saw(family: Family) -> None:
    if not family.auto:
        with pytest.raises(StepError, match=r"template: auto finds no delimiters of thinking: its vocabulary has"):
            prompter(family, "auto")
        return
    given, auto = prompter(family), prompter(family, "auto")
    assert auto.prompt("1+1?") == given.prompt("1+1?")
    forcing, found = given.forcing([]), auto.forcing([])
    assert found.closing(FINAL_ANSWER, 65) == forcing.closing(FINAL_ANSWER, 65)
    assert found.ends == forcing.ends


@rows
def test_thinking_that_is_off_is_an_error_that_names_the_switch(family: Family) -> None:
    if family.off is None:
        assert prompter(family, switched=False).prompt("1+1?")
        return
    with pytest.raises(StepError, match=re.escape(f"set chat_template_kwargs: {{{family.off}}}")):
        prompter(family, switched=False).prompt("1+1?")


@rows
def test_thinking_ends_at_the_close_and_the_answer_follows_it(family: Family) -> None:
    model = prompter(family)
    forcing = model.forcing([])
    said = model._ids(family.says)
    stop = next((at for at, token in enumerate(said) if token in forcing.thinking_stops), None)
    teller = Teller(list(said if stop is None else said[:stop]), [3, 1, 4, 1, 5])

    async def think() -> list[int]:
        request = Request((1,), 200, forcing.thinking_stops)
        return [token async for chunk in thinking_stream(teller, request, forcing, ()) for token in chunk.tokens]

    thought = model.text(asyncio.run(think()))
    assert thought.strip() == "Hm."
    assert family.says.removeprefix(thought).startswith(model.template.close.strip())
    assert model.text(forcing.closing(None, said[0])) == model.template.close
    assert model.text(forcing.closing(FINAL_ANSWER, 65)) == f"\n{model.template.close}\nFinal Answer:"
    after = family.says.partition(model.template.close)[2]
    assert model.answer(None, model._ids(after)).strip() == "4"
    assert model.answer(FINAL_ANSWER, model._ids(" 4")) == "\nFinal Answer: 4"
    assert model.reopens(model._ids(f"so {model.template.open}"))
    assert model.answer(None, model._ids(f"4{model.template.open}or")) == ""


@rows
def test_the_row_says_so(family: Family) -> None:
    name = next(name for name, each in FAMILIES.items() if each is family)
    (row,) = [line for line in TABLE.splitlines() if line.startswith(f"| {name} |")]
    style = family.style if isinstance(family.style, str) else family.style["open"].replace("|", "\\|")
    assert f"`{style}`" in row or style in row
    assert family.off is None or f"`{family.off}`" in row
    assert family.system in (None, "Be brief.") or f'`system: "{family.system}"`' in row
    assert ("auto" in row) == family.auto


def test_every_row_is_tested() -> None:
    named = {line.split("|")[1].strip() for line in TABLE.splitlines() if line.startswith("| ") and "`" in line}
    assert named == set(FAMILIES)


def test_a_tokenizer_without_a_chat_template_is_told_so() -> None:
    fast = FAMILIES["Qwen3"].tokenizer()
    fast.chat_template = None
    with pytest.raises(StepError, match="its tokenizer has no chat template"):
        Prompter(fast, None, [fast.eos_token_id])
