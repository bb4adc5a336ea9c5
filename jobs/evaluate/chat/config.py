"""What a server that only chats is told about thinking, and what it cannot do. Light, as all of the config is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from jobs.evaluate.sweep import kinds
from jobs.evaluate.sweep.kinds import KINDS
from orchestrator.job.config import Problem
from orchestrator.job.strict_model import StrictModel

if TYPE_CHECKING:  # which has a field of this module's
    from jobs.evaluate.config import EvaluateConfig

OURS = ("model", "messages", "n", "stream", "stream_options", "reasoning_effort")
"""Keys of a request that the sweep itself sets."""


class Chat(StrictModel):
    """How the server is asked to think. All of it is part of what the sweep is."""

    budget: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*$",
        description="the request's key that takes a budget of thinking tokens: thinking.budget_tokens",
    )
    think_tags: bool = Field(
        default=False,
        description="thinking stands in the text of answers, up to </think>; its tokens go by its share of the text",
    )
    parameters: dict[str, JsonValue] = Field(default={}, description="sent with every request: {temperature: 0.6}")

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Where there are no tags, nothing is said of them: answers are known by what a server was told."""
        fields: dict[str, JsonValue] = dump(self)
        return {name: value for name, value in fields.items() if name != "think_tags" or value}

    @model_validator(mode="after")
    def _has_one_meaning(self) -> Self:
        for key in OURS:
            if key in self.parameters:
                raise ValueError(f"parameters: {key} is set by the sweep: leave it out")
        if self.budget is not None:
            here: JsonValue = self.parameters
            for name in self.budget.split("."):
                if not isinstance(here, dict):
                    raise ValueError(f"parameters: has a value where {self.budget} belongs: leave it out")
                if name not in here:
                    return self
                here = here[name]
            raise ValueError(f"parameters: {self.budget} is set by budgets: leave it out")
        return self

    def request(self, effort: str | None, budget: int | None) -> dict[str, JsonValue]:
        """The keys of a request that say how to think."""
        body = dict(self.parameters)
        if effort is not None:
            body["reasoning_effort"] = effort
        if budget is not None:
            assert self.budget is not None, "a config with budgets says where they go"
            *path, last = self.budget.split(".")
            inner = body
            for name in path:
                within = inner.get(name)
                inner[name] = fresh = dict(within) if isinstance(within, dict) else {}
                inner = fresh
            inner[last] = budget
        return body


def cannot(config: EvaluateConfig) -> Iterator[Problem]:
    """What a config asks for that its chat server cannot do, or has decided itself: a line each."""
    chats = "a server that only chats"
    if config.chat is None:
        return
    given = config.model_fields_set
    for key, value in kinds.given(config).items():
        if key in given:
            for below, why in KINDS[key].chats(value, config):
                yield Problem((key, *below), why)
    reasons = {
        "max_answer_tokens": f"{chats} counts thinking and answers as one: leave it out, and set its limit in "
        "chat.parameters: {max_completion_tokens: 32768}",
        "context_length": f"{chats} has its own: leave it out",
        "template": f"{chats} writes its own prompt: leave it out",
        "chat_template_kwargs": f"{chats} has its own template: give them in chat.parameters, as the server takes them",
        "date": f"{chats} writes its own prompt: leave it out",
        "temperature": "a chat server takes what it allows to be set in chat.parameters: {temperature: 0.6}",
        "top_p": "a chat server takes what it allows to be set in chat.parameters: {top_p: 0.95}",
        **dict.fromkeys(
            ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "sampling"),
            "a chat server takes what it allows to be set in chat.parameters: {presence_penalty: 1.5}",
        ),
        "model": f"{chats} has the model and its tokenizer: leave it out; served_model is its name",
    }
    for field, reason in reasons.items():
        if field in given and getattr(config, field) is not None:
            yield Problem((field,), reason)
    if not config.policies:
        yield Problem(
            (), f"has nothing to compare: {chats} can do baseline, efforts, budgets, conditional and rejection"
        )
