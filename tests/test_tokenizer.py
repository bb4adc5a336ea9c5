"""A model in Mistral's own format is given the ids that mistral-common gives it, and its special tokens are special."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from mistral_common.protocol.instruct.messages import SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.engines.model import resolve
from jobs.evaluate.look import look
from jobs.tokenizer import TEKKEN, saved_tokenizer
from orchestrator.job.context import StepContext
from tests.evaluate import tiny

MARKERS = [
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[THINK]"),
    "[/THINK]",
]


def write_tekken(folder: Path) -> Path:
    """A vocabulary of Magistral's version, cut to a few hundred ids."""
    published = json.loads(files("mistral_common").joinpath("data", "tekken_240911.json").read_text())
    sizes = {"num_vocab_tokens": 256, "default_vocab_size": 304, "default_num_special_tokens": 48, "version": "v13"}
    vocabulary = {
        "config": published["config"] | sizes,
        "vocab": published["vocab"][:256],
        "special_tokens": [
            {"rank": rank, "token_str": marker, "is_control": True} for rank, marker in enumerate(MARKERS)
        ],
    }
    (folder / TEKKEN).write_text(json.dumps(vocabulary))
    return folder / TEKKEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has its tokenizer in Mistral's format alone."""
    folder = tiny.save(tmp_path_factory.mktemp("tekken") / "model", padded_vocabulary=320)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 2}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    write_tekken(folder)
    return folder


def test_prompts_are_those_of_mistral_common(folder: Path) -> None:
    ours = saved_tokenizer(str(folder))
    theirs: Any = MistralTokenizer.from_file(str(folder / TEKKEN))
    for system, question in [("Be brief.", "What is 12 + 30?"), ("Ä 日本", "Say [THINK] and <s>, twice.\n\n")]:
        expected = theirs.encode_chat_completion(
            ChatCompletionRequest[Any](messages=[SystemMessage(content=system), UserMessage(content=question)])
        ).tokens
        said = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        prompt = ours.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        ids = ours.encode(prompt, add_special_tokens=False)
        if "[THINK]" not in question:
            assert ids == expected
        assert ours.decode(ids, skip_special_tokens=False) == prompt
    assert ours.encode("[THINK]", add_special_tokens=False) == [MARKERS.index("[THINK]")]


def test_both_formats_side_by_side_are_one_tokenizer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "both")
    saved_tokenizer(str(folder)).save_pretrained(tmp_path / "both")
    both, alone = saved_tokenizer(str(tmp_path / "both")), saved_tokenizer(str(folder))
    text = "<s>[INST]Hm?[/INST][THINK]Ä 12[/THINK]"
    assert both.encode(text, add_special_tokens=False) == alone.encode(text, add_special_tokens=False)
    assert both.chat_template == alone.chat_template


def test_a_sweep_forces_its_thinking(folder: Path, tmp_path: Path) -> None:
    said = {"model": str(folder), "tasks": [{"name": "letters", "items": 2}], "template": "magistral"}
    config = EvaluateConfig.model_validate_json(json.dumps(said))
    context = StepContext("x", "x", "0", tmp_path / "step", tmp_path / "traces")
    assert resolve(config, context).end_of_turn == (2,)
    shown = look(config, context)
    assert "opens with '[THINK]', closes with '[/THINK]'" in shown
    assert "⟦[/INST]⟧⟦[THINK]⟧" in shown
