"""Where a served model is, as an experiment file says it. Light, as all of the config is."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from orchestrator.job.resources import Seconds
from orchestrator.job.strict_model import StrictModel


def _server_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError("is not a server's address: give one like http://10.0.0.7:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError(
            "a server's address has no credentials, query or fragment: name the key's variable in key_variable"
        )
    return value


def _variable(value: str) -> str:
    # The value is not repeated: it may be the key itself, put here by mistake.
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ValueError("is not the name of an environment variable: give one in capitals, like OPENAI_API_KEY")
    return value


class Price(StrictModel):
    """What a server charges."""

    prompt: float = Field(ge=0, description="USD per million tokens of prompts")
    completion: float = Field(ge=0, description="USD per million tokens of thinking and answers")

    def usd(self, prompt: float, completion: float) -> float:
        """Of so many tokens."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


class Server(StrictModel):
    """Where an OpenAI-compatible server is, and how it is talked to. What it serves is ``served_model``."""

    url: Annotated[str, AfterValidator(_server_url)] = Field(description="http://10.0.0.7:8000/v1")
    key_variable: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None, description="the environment variable, on the machines of the replicas, that has the key"
    )
    requests: int = Field(default=128, ge=1, le=1000, description="at once, of each replica")
    retries: int = Field(default=5, ge=0, le=100, description="of a request: refused, failed or cut off")
    deadline: Seconds = Field(default=300, description="seconds without a token, retries too")
    price: Price | None = Field(default=None, description="of a server that only chats: for plan and max_cost")
    seeds_by_position: bool = Field(
        default=False, description="its noise is by seed and position, as that of vLLM's model runner V2 on GPUs"
    )
