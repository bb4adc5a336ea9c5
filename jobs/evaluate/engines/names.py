"""The engines that an experiment file can name."""

from __future__ import annotations

from typing import Literal

EngineName = Literal["transformers", "vllm", "openai"]
