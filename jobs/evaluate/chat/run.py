"""A sweep on a server that only chats: what is not known is asked, and all of it is accounted for as any other sweep.

Everything is waiting for the server, so it happens in the step's own process, without replicas.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.evaluate.chat import asking
from jobs.evaluate.chat.client import Answer
from jobs.evaluate.chat.replies import Asked, Replies
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.samples import samples_file, table, tries
from jobs.evaluate.sweep.ledger import Ledger, ThinkingEnd
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import put, unit_key
from jobs.evaluate.sweep.tree import Leaf
from jobs.evaluate.tasks import Item, Task
from jobs.evaluate.traces.files import traces_folder
from orchestrator.job.context import StepContext


@dataclass(frozen=True)
class ChatPrompt:
    """An item as it is put to the server, and the policies that put it so."""

    task: Task
    item: Item
    text: str
    policies: tuple[Policy, ...]

    @cached_property
    def key(self) -> str:
        """Names it in the store."""
        return unit_key(self.item.id, list(self.text.encode()))

    def asked(self, policy: Policy, sample: int) -> Asked:
        """The request that `policy` makes. Rejection sampling makes the baseline's, and looks at several answers."""
        return Asked(self.key, sample, policy.root.effort, policy.route.budget if policy.route.forced else None)


def answer(
    config: EvaluateConfig, context: StepContext, tasks: Sequence[Task], samples: Path, grader: Grader
) -> dict[str, Any]:
    """Asks what is missing and writes the samples. Returns what that took.

    Raises StepError when the server cannot be used; what it answered until then is kept.
    """
    assert config.chat is not None, "only for servers that chat"
    questions = list(_questions(config, tasks))
    replies = _replies(config, context)
    wanted = {
        question.asked(policy, sample): question.text
        for question in questions
        for sample in range(config.samples)
        for policy in question.policies
    }
    missing = {asked: text for asked, text in wanted.items() if asked not in replies}
    asking.ask(config, config.chat, context, missing, replies, len(wanted))
    beyond = alone = 0
    with samples_file(samples) as add:
        for question in questions:
            ledgers = list(_ledgers(question, config.samples, replies))
            beyond += sum(ledger.thinking_end == "ignored" for ledger in ledgers)
            alone += sum(ledger.thinking_tokens + ledger.answer_tokens for ledger in ledgers)
            add(table(grader.grade([(question.task, ledger) for ledger in ledgers])))
    if beyond:
        print(f"the server thought beyond {config.chat.budget} in {beyond} answers: they are not counted")
    return {
        "units": len(wanted),
        "thinking_tokens_decoded": sum(replies[asked].thinking_tokens for asked in missing),
        "answer_tokens_decoded": sum(replies[asked].answer_tokens for asked in missing),
        "policies_alone_tokens": alone,
        "answers_beyond_their_budget": beyond,
    }


def thoughts(config: EvaluateConfig, context: StepContext, tasks: Sequence[Task]) -> Iterator[str]:
    """What the server showed of its thinking, of every sample in their order. For sweeps with one policy."""
    replies = _replies(config, context)
    for question in _questions(config, tasks):
        (policy,) = question.policies
        for sample in range(config.samples):
            yield replies[question.asked(policy, sample)].thinking


def _replies(config: EvaluateConfig, context: StepContext) -> Replies:
    assert config.chat is not None, "only for servers that chat"
    determined_by = {
        "served_model": config.served_model,
        "chat": config.chat.model_dump(mode="json"),
        "seed": config.seed,
    }
    if config.system is not None:
        determined_by["system"] = config.system
    folder = traces_folder(context.traces, determined_by)
    context.use_traces(folder)
    return Replies(folder, report=print)


def _questions(config: EvaluateConfig, tasks: Sequence[Task]) -> Iterator[ChatPrompt]:
    by_sentence: dict[str | None, list[Policy]] = {}
    for policy in config.policies:
        by_sentence.setdefault(policy.root.sentence, []).append(policy)
    for task in tasks:
        for item in task.items:
            for sentence, policies in by_sentence.items():
                yield ChatPrompt(task, item, put(item.question, sentence), tuple(policies))


def _ledgers(question: ChatPrompt, samples: int, replies: Replies) -> Iterator[Ledger]:
    answers = {
        policy: [replies[question.asked(policy, sample)] for sample in range(samples)] for policy in question.policies
    }
    ends = {policy: [_leaf(policy, answer) for answer in by_sample] for policy, by_sample in answers.items()}
    for sample in range(samples):
        for policy in question.policies:
            yield _ledger(question, policy, sample, ends[policy], answers[policy])


def _ledger(
    question: ChatPrompt, policy: Policy, sample: int, ends: Sequence[Leaf], answers: Sequence[Answer]
) -> Ledger:
    looked_at = tries(ends, sample, policy.tries)
    taken = looked_at[-1]
    end = ends[taken]
    return Ledger(
        item=question.item.id,
        sample=sample,
        policy=policy.name,
        thinking_tokens=end.thinking_tokens,
        injected_tokens=0,
        answer_tokens=end.answer_tokens,
        thinking_end=end.thinking_end,
        answer_end=end.answer_end,
        extensions_used=0,
        extensions_skipped=0,
        continued=False,
        asked=policy.asked,
        tries=len(looked_at),
        answer="" if end.answer_end == "none" else answers[taken].text,
    )


def _leaf(policy: Policy, answer: Answer) -> Leaf:
    """What `policy` makes of an answer: how thinking ended follows from how long it was."""
    thought, route = answer.thinking_tokens, policy.route
    if policy.tries and route.budget is not None and thought > route.budget:
        return Leaf(None, thought, 0, "rejected", 0, "none", 0, 0)
    if answer.end == "length" and not answer.text:
        return Leaf(None, thought, 0, "context", 0, "none", 0, 0)
    end: ThinkingEnd = "natural"
    if route.forced and route.budget is not None and thought >= route.budget:
        end = "forced" if thought == route.budget else "ignored"
    return Leaf(
        None, thought, 0, end, answer.answer_tokens, "none" if answer.end == "content_filter" else answer.end, 0, 0
    )
