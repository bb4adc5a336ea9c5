"""The data that a gang finds, and what is refused before one is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import Qwen2Config, Qwen2ForCausalLM

from jobs.finetune.config import FinetuneConfig
from jobs.finetune.look import as_html, look_at
from jobs.finetune.prepare import look, prepare, prepared, publish, seen
from jobs.finetune.tokenizer import byte_tokenizer
from jobs.template import TEMPLATES
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.finetune.qwen_like import qwen_tokenizer

ROWS = [{"question": "2+2?", "trace": "2, 3, <4>\n" * at, "answer": "4"} for at in range(1, 11)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def config(data: Path, **fields: object) -> FinetuneConfig:
    defaults = {"model": {"random": "qwen2", "layers": 1, "hidden_size": 64}, "data": str(data), "batch_size": 4}
    return FinetuneConfig.model_validate_json(json.dumps(defaults | fields))


def context(folder: Path) -> StepContext:
    return StepContext("experiment", "tiny", "0", folder, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with fewer positions than Qwen's, whose tokenizer has s1's delimiters only."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = qwen_tokenizer()
    settings = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=160,
    )
    Qwen2ForCausalLM(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_what_is_prepared_is_found_again_and_told(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = config(rows, block_size=80), tmp_path / "step" / "data"
    prepare(recipe, context(tmp_path), folder)
    told = capsys.readouterr().out
    data = prepared(folder)
    assert len(data) == 10
    assert seen(folder) == {
        "data_fingerprint": data.fingerprint,
        "data_samples": 10,
        "data_rows": 10,
        "data_tokens": len(data.ids),
        "data_learned_tokens": data.learned(range(10)),
        "data_longest": int((data.lengths(range(10)) + data.cut).max()),
        "data_cut_samples": 5,
        "data_cut_share": 0.5,
    }
    assert "5 samples (50.0%), which lose" in told
    publish(folder, tmp_path)
    assert (tmp_path / "data.txt").read_text() in told
    assert "(50.0%)" in (tmp_path / "data.html").read_text()

    rows.unlink()  # A second attempt has what the first one prepared.
    prepare(recipe, context(tmp_path), folder)
    assert capsys.readouterr().out == told


def test_a_packed_run_is_prepared_packed(rows: Path, tmp_path: Path) -> None:
    prepare(config(rows, packing=True, block_size=256), context(tmp_path), tmp_path / "data")
    data = prepared(tmp_path / "data")
    assert (data.samples, data.packed) == (10, True)
    assert "packed           into" in (tmp_path / "data" / "data.txt").read_text()


def test_the_look_shows_lengths_and_what_is_learned(rows: Path, tmp_path: Path) -> None:
    text = look(config(rows), context(tmp_path))
    head, _, example = text.partition("the first sample: · is read, + is learned\n")
    assert head.count("█") > 40
    assert sum(int(line.split()[-1]) for line in head.splitlines() if line.startswith("≤")) == 10
    assert example.splitlines() == [
        "· <|im_start|>user",
        "· 2+2?<|im_end|>",
        "· <|im_start|>assistant",
        "+ <think>",
        "+ 2, 3, <4>",
        "+ </think>",
        "+ Answer: 4<|im_end|>",
    ]


def test_the_page_escapes_the_data_and_marks_what_is_learned(rows: Path, tmp_path: Path) -> None:
    recipe = config(rows)
    prepare(recipe, context(tmp_path), tmp_path / "data")
    seen = look_at(prepared(tmp_path / "data"), recipe, byte_tokenizer(512), TEMPLATES["think"])
    page = as_html(seen)
    assert "<span class='learned'>\n2, 3, &lt;4&gt;\n</span>" in page
    assert "<span class='learned marker'>&lt;think&gt;</span>" in page
    assert "<span class='read'>user\n2+2?</span>" not in page  # "user" is a token of its own
    assert "<span class='read'>\n2+2?</span>" in page


def test_a_long_example_is_shown_without_its_middle(tmp_path: Path) -> None:
    row = {"question": "2+2?", "trace": "a" * 5000 + "z", "answer": "4"}
    (tmp_path / "data.jsonl").write_text(json.dumps(row))
    recipe = config(tmp_path / "data.jsonl", model={"random": "qwen2", "layers": 1, "hidden_size": 64, "context": 8192})
    text = look(recipe, context(tmp_path))
    assert len(text) < 1500
    assert "[… 4,616 tokens …]" in text
    assert "az\n+ </think>\n+ Answer: 4<|im_end|>" in text


def test_what_makes_training_pointless_is_warned_of(rows: Path, folder: Path, tmp_path: Path) -> None:
    text = look(config(rows, model=str(folder), template="think", block_size=100), context(tmp_path))
    assert "100% of the samples are cut, so that their answers are never seen: raise block_size" in text
    assert "template 'think' has the open delimiter '<think>', for which the model's vocabulary has no token: " in text
    assert "warning" not in look(config(rows, model=str(folder), template="s1", block_size=160), context(tmp_path))


def test_a_model_with_a_smaller_vocabulary_than_its_tokenizer_is_refused(
    rows: Path, folder: Path, tmp_path: Path
) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (tmp_path / "model").mkdir()
    for file in folder.iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings | {"vocab_size": 280}))
    with pytest.raises(StepError, match="model: its vocabulary has 280 ids, and its tokenizer 285: take the tokenizer"):
        look(config(rows, model=str(tmp_path / "model"), template="s1"), context(tmp_path))


def test_samples_beyond_the_model_s_positions_are_refused(rows: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="a sample has 194 tokens when cut at 32768, and the model 160 positions"):
        look(config(rows, model=str(folder), template="s1"), context(tmp_path))
