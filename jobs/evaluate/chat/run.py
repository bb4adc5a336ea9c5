"""A sweep on a server that only chats: what is not known is asked, and all of it is accounted for as any other sweep.

Everything is waiting for the server, so it happens in the step's own process, without replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jobs.evaluate.chat.client import Answer, ChatClient
from jobs.evaluate.chat.config import Chat
from jobs.evaluate.chat.replies import Asked, Replies
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.protocol import EngineError
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.samples import samples_file, tries
from jobs.evaluate.sweep.ledger import Ledger, ThinkingEnd
from jobs.evaluate.sweep.policy import Policy
from jobs.evaluate.sweep.prompts import put, unit_key
from jobs.evaluate.sweep.tree import Leaf
from jobs.evaluate.tasks import Item, Task, load
from jobs.evaluate.traces.files import traces_folder
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError

KEEP_SECONDS = 2.0
"""What a killed run loses at most: the answers of so long."""


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


def answer(config: EvaluateConfig, context: StepContext, samples: Path, grader: Grader) -> dict[str, float]:
    """Asks what is missing and writes the samples. Returns what that took.

    Raises StepError when the server cannot be used; what it answered until then is kept.
    """
    assert config.chat is not None, "only for servers that chat"
    questions = list(_questions(config, context))
    determined_by = {
        "served_model": config.served_model,
        "chat": config.chat.model_dump(mode="json"),
        "seed": config.seed,
    }
    if config.system is not None:
        determined_by["system"] = config.system
    folder = traces_folder(context.traces, determined_by)
    context.use_traces(folder)
    replies = Replies(folder, report=print)
    wanted = {
        question.asked(policy, sample): question.text
        for question in questions
        for sample in range(config.samples)
        for policy in question.policies
    }
    missing = {asked: text for asked, text in wanted.items() if asked not in replies}
    try:
        asyncio.run(_ask(config, config.chat, context, missing, replies, len(wanted)))
    except* EngineError as failures:
        raise StepError(f"engine: {failures.exceptions[0]}") from None
    beyond = alone = 0
    with samples_file(samples) as add:
        for question in questions:
            ledgers = list(_ledgers(question, config.samples, replies))
            beyond += sum(ledger.thinking_end == "ignored" for ledger in ledgers)
            alone += sum(ledger.thinking_tokens + ledger.answer_tokens for ledger in ledgers)
            add(grader.grade([(question.task, ledger) for ledger in ledgers]))
    if beyond:
        print(f"the server thought beyond {config.chat.budget} in {beyond} answers: they are not counted")
    return {
        "units": len(wanted),
        "thinking_tokens_decoded": sum(replies[asked].thinking_tokens for asked in missing),
        "answer_tokens_decoded": sum(replies[asked].answer_tokens for asked in missing),
        "policies_alone_tokens": alone,
        "answers_beyond_their_budget": beyond,
    }


def _questions(config: EvaluateConfig, context: StepContext) -> Iterator[ChatPrompt]:
    by_sentence: dict[str | None, list[Policy]] = {}
    for policy in config.policies:
        by_sentence.setdefault(policy.root.sentence, []).append(policy)
    for task in [load(task, context.inputs) for task in config.tasks]:
        for item in task.items:
            for sentence, policies in by_sentence.items():
                yield ChatPrompt(task, item, put(item.question, sentence), tuple(policies))


async def _ask(
    config: EvaluateConfig, chat: Chat, context: StepContext, missing: dict[Asked, str], replies: Replies, total: int
) -> None:
    """Asks for everything that is missing, so many at once as the server is given."""
    server = config.resources.server
    assert server is not None, "a chat server has an address"
    assert config.served_model is not None, "and a name for its model"
    context.progress(total - len(missing), total, "answers")
    if not missing:
        return
    client = ChatClient(server, config.served_model, config.system)
    left = iter(missing.items())
    fresh: list[tuple[Asked, Answer]] = []

    async def ask_on() -> None:
        for asked, text in left:
            fresh.append((asked, await client.ask(text, chat.request(asked.effort, asked.budget))))

    def keep() -> int:
        replies.add(fresh)
        kept = len(fresh)
        fresh.clear()
        return kept

    done = total - len(missing)
    try:
        async with asyncio.TaskGroup() as group:
            asking = {group.create_task(ask_on()) for _ in range(min(server.requests, len(missing)))}
            while asking:
                _, asking = await asyncio.wait(asking, timeout=KEEP_SECONDS)
                done += keep()
                context.progress(done, total, "answers")
    finally:
        keep()
        await client.close()


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
