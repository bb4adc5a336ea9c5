"""A look at a sweep before it runs: one prompt of each task, as the model will be given it, and what ends thinking.

``python -m orchestrator look FILE`` shows it. Most mistakes in a sweep of a new model are mistakes in its prompt, and
are seen here before a GPU is taken: thinking that is not open, a system prompt that should be there, a date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines import model as models
from jobs.evaluate.sweep.prompts import Prompter
from jobs.evaluate.tasks import Task, load
from jobs.template import UNMARKED
from orchestrator.job.context import StepContext

_MOST = 4000
"""Characters of a prompt that are shown, from either end."""


def look(config: EvaluateConfig, context: StepContext) -> str:
    """The look, as text. Raises StepError as the step itself would."""
    return prompts(config, context, lambda: [load(task, context.inputs) for task in config.tasks])


def prompts(config: EvaluateConfig, context: StepContext, asked: Callable[[], Sequence[Task]]) -> str:
    """A prompt of each task that is `asked`, and what is known of it."""
    if config.chat is not None:
        return "the server writes its own prompts, and shows them to nobody"
    model = models.resolve(config, context)
    prompter = Prompter(model.tokenizer, config.template.style, model.end_of_turn, config.instructions)
    tasks = asked()
    lines = [f"{name:<16} {value}" for name, value in _facts(config, prompter)]
    for task in tasks:
        item = task.items[0]
        prompt = prompter.prompt(item.question)
        lines += ["", f"the prompt of {task.name}'s item {item.id}: {len(prompt)} tokens, the vocabulary's own in ⟦⟧"]
        lines += visible(model.tokenizer, prompt).split("\n")
    return "\n".join(lines)


def visible(tokenizer: Any, ids: tuple[int, ...]) -> str:
    """`ids` as text, in which tokens of the vocabulary's own are told from text that looks like them."""
    added = tokenizer.added_tokens_decoder
    text = "".join(
        "".join(f"⟦{tokenizer.decode([token])}⟧" for token in run) if special else tokenizer.decode(list(run))
        for special, run in groupby(ids, key=lambda token: token in added)
    )
    if len(text) <= 2 * _MOST:
        return text
    return f"{text[:_MOST]}\n[… {len(text) - 2 * _MOST:,} characters …]\n{text[-_MOST:]}"


def _facts(config: EvaluateConfig, prompter: Prompter) -> Iterator[tuple[str, str]]:
    style = prompter.template
    if style == UNMARKED:
        yield "template", "none: all that the model writes is its answer"
    else:
        suffices = ", whose first token suffices" if style.first_token_ends else ""
        yield "template", f"{config.template}: opens with {style.open!r}, closes with {style.close!r}{suffices}"
    given = ", ".join(f"{name}: {value!r}" for name, value in config.chat_template_kwargs.items()) or "none given"
    yield "switches", f"{given}; the chat template knows {', '.join(sorted(prompter.switches)) or 'none'}"
    if prompter.dated:
        yield "date", f"the chat template writes the day, and is given {config.date} whatever the day is"
