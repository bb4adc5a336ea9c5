"""A model's tokenizer, as its folder or its repository has it."""

from __future__ import annotations

from typing import Any

from orchestrator.job.errors import StepError

TEKKEN = "tekken.json"
"""The vocabulary of Mistral's models in their own format, in which text never becomes a special token."""


def saved_tokenizer(source: str, revision: str | None = None) -> Any:
    """The tokenizer of a model, in transformers' form whatever it was saved in. Takes seconds to import.

    Where Mistral's format comes without a chat template, it is the one that mistral-common has for it.
    Raises StepError when it cannot be loaded.
    """
    from jobs.transformers_classes import AutoTokenizer

    try:
        tekken = _file(source, TEKKEN, revision)
        if tekken is not None and _file(source, "tokenizer.json", revision) is None:
            from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer

            return convert_tekken_tokenizer(tekken)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, mistral_format=False)
        if tekken is not None and not tokenizer.chat_template:
            from mistral_common.integrations.chat_templates.chat_templates import convert_tokenizer_to_chat_template

            tokenizer.chat_template = convert_tokenizer_to_chat_template(tekken)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StepError(f"model: the tokenizer of {source!r} cannot be loaded ({reason})") from error
    return tokenizer


def _file(source: str, name: str, revision: str | None) -> str | None:
    """A file of a folder, or of a repository of the hub; None where there is none."""
    from transformers.utils import cached_file

    path: str | None = cached_file(
        source,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return path
