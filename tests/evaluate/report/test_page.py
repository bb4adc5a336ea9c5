"""The report's files: complete, bounded, the same each time, and with nothing in them that what models say can turn."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jobs.evaluate import report
from jobs.evaluate.chat.client import Answer
from jobs.evaluate.chat.config import Chat
from jobs.evaluate.chat.replies import Asked, Replies
from jobs.evaluate.chat.run import answer
from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.grading.grader import Grader
from jobs.evaluate.publish import publish
from jobs.evaluate.report.markdown import escaped
from jobs.evaluate.report.viewer import pack
from jobs.evaluate.run import tasks_of
from jobs.evaluate.sweep.prompts import put, unit_key
from jobs.evaluate.traces.files import traces_folder
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from orchestrator.job.html import visible
from orchestrator.job.record import FinishedStep
from tests.evaluate.report.sweep import HOSTILE, QUESTIONS, hostile, request


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> FinishedStep:
    return hostile(tmp_path_factory.mktemp("sweep"))


def written(step: FinishedStep, folder: Path, **changes: Any) -> str:
    report.write([step], request(folder, **changes))
    return (folder / "report.html").read_text()


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the texts of its scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1] == ("script", {}) and data.strip():
            self.scripts.append(data)


def packed(page: str) -> dict[str, Any]:
    """What the page's data blocks hold, by id."""
    blocks = re.findall(r'<script type="text/plain" id="([^"]+)"[^>]*>([A-Za-z0-9+/=]+)</script>', page)
    return {name: json.loads(gzip.decompress(base64.b64decode(text))) for name, text in blocks}


def test_the_page_has_every_number_and_says_what_produced_it(step: FinishedStep, tmp_path: Path) -> None:
    page = html.unescape(written(step, tmp_path))
    for row in json.loads((step.context.output / "curves.json").read_text())[0]["points"]:
        assert f"{100 * row['accuracy']:.1f}%" in page
        assert f"{row['thinking_tokens']:,.1f}" in page
    for fact in (
        "0123456789abcdef",
        "0123abc",
        "torch 2.13.0",
        "3.11.9",
        '"max_answer_tokens": 60',
        "400 tokens were decoded",
    ):
        assert fact in page
    text = (tmp_path / "report.md").read_text()
    for fact in ("0123456789abcdef", "0123abc", "torch 2.13.0", "| 4 |", "400 tokens were decoded"):
        assert fact in text


def test_published_values_lie_beside_ours_and_it_says_which_agree_within_noise(
    step: FinishedStep, tmp_path: Path
) -> None:
    page = html.unescape(written(step, tmp_path))
    assert "Beside published values" in page
    values = json.loads((step.context.output / "published.json").read_text())["values"]
    assert [each["name"] for each in values] == ["4", "auto"] or [each["name"] for each in values] == ["auto", "4"]
    for each in values:
        assert each["verdict"] == "within noise", "two items tell nothing apart"
        cells = (each["name"], each["verdict"], f"{each['ours']:.1f}", f"{each['published']:.1f}")
        assert re.search(r"\|\s*".join(re.escape(f"{cell} ") for cell in cells), (tmp_path / "report.md").read_text())


def test_the_page_runs_its_own_script_alone_and_asks_nobody_for_anything(step: FinishedStep, tmp_path: Path) -> None:
    page = written(step, tmp_path)
    tags = Tags(page)
    running = [attributes for tag, attributes in tags.found if tag == "script" and "type" not in attributes]
    assert running == [{}]
    (policy,) = (attributes["content"] for tag, attributes in tags.found if attributes.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(tags.scripts[-1].encode()).digest()).decode()
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    for _, attributes in tags.found:
        assert not any(name.startswith("on") or name in ("src", "style", "srcdoc") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")


def test_nothing_that_models_or_users_wrote_is_markup(step: FinishedStep, tmp_path: Path) -> None:
    page = written(step, tmp_path)
    assert not {tag for tag, _ in Tags(page).found} & {"img", "b"}
    assert "<title>sums &amp; &lt;more&gt;</title>" in page
    for text in HOSTILE:
        assert text not in page
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", page)
    said = json.dumps(packed(page))
    for text in HOSTILE:
        assert json.dumps(text)[1:-1] in said, "it is there all the same, packed"


def test_unseen_characters_are_spelled_out() -> None:
    assert visible("a\u202eb\x00c\ufeff é 中\n") == "a\\u202eb\\u0000c\\ufeff é 中\n"


def test_markdown_takes_texts_for_texts() -> None:
    assert escaped("a|b <img> *c* `d` [e](f)\ng\u202e") == (
        "a\\|b \\<img\\> \\*c\\* \\`d\\` \\[e\\](f)\\\\u000ag\\\\u202e"
    )


def test_every_table_of_the_markdown_has_rows_as_wide_as_its_head(step: FinishedStep, tmp_path: Path) -> None:
    written(step, tmp_path)
    for block in (tmp_path / "report.md").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1


def test_all_verdicts_and_trees_are_in_a_page_that_has_room(step: FinishedStep, tmp_path: Path) -> None:
    page = written(step, tmp_path)
    data = packed(page)
    index = data.pop("s0-t0-index")
    assert index["items"] == [line["id"] for line in QUESTIONS]
    assert len(index["verdicts"]) == 6 * len(index["policies"])
    assert set(data) == {f"s0-t0-{number}" for number in range(6)}
    assert data["s0-t0-2"]["question"] == QUESTIONS[1]["question"]
    assert "All 6 samples are here, each with the whole tree of its traces." in page


def test_a_page_without_room_says_what_it_holds_and_how_to_see_the_rest(step: FinishedStep, tmp_path: Path) -> None:
    whole = written(step, tmp_path / "whole")
    one = len(pack(packed(whole)["s0-t0-4"]))
    page = written(step, tmp_path / "small", megabytes=(one + 100) / 1e6, items=("it's",))
    data = packed(page)
    assert len(data["s0-t0-index"]["verdicts"]) == 6 * len(data["s0-t0-index"]["policies"]), "verdicts are all there"
    assert set(data) == {"s0-t0-index", "s0-t0-4"}
    assert "All 6 samples are here with their verdicts, and 1 of them with the whole tree" in page
    assert "report sums.yaml --item ID" in page


def test_an_item_that_no_sweep_has_is_refused(step: FinishedStep, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="--item: no item 'three'"):
        written(step, tmp_path, items=("three",))


def test_the_same_sweep_gives_the_same_page(step: FinishedStep, tmp_path: Path) -> None:
    assert written(step, tmp_path / "first") == written(step, tmp_path / "second")


@pytest.mark.seconds
def test_a_model_that_is_gone_leaves_answers_and_says_so(tmp_path: Path) -> None:
    step = hostile(tmp_path)
    (tmp_path / "model" / "config.json").unlink()
    page = written(step, tmp_path / "report")
    assert "All 6 samples are here with their answers; of 0 the traces are known too." in page
    data = packed(page)
    for name in set(data) - {"s0-t0-index"}:
        assert data[name]["note"].startswith("Only its answers, without their thinking: model: ")
        assert data[name]["answers"]
        assert not data[name]["branches"]


def test_the_page_is_an_artifact_of_one_tracked_run_of_the_sweep(step: FinishedStep, tmp_path: Path) -> None:
    page = written(step, tmp_path)
    (copy,) = step.context.folder.glob("tracked/*/artifacts/report.html")
    assert copy.read_text() == page
    assert json.loads((copy.parents[1] / "run.json").read_text())["params"]["curve"] == "budget"


@pytest.mark.seconds
def test_two_sweeps_share_a_page(step: FinishedStep, tmp_path: Path) -> None:
    other = hostile(tmp_path)
    report.write([step, other], request(tmp_path / "report"))
    data = packed((tmp_path / "report" / "report.html").read_text())
    assert {name.rpartition("-")[0] for name in data} == {"s0-t0", "s1-t0"}


def test_a_server_that_only_chats_has_answers_and_questions_without_thinking(tmp_path: Path) -> None:
    sums = tmp_path / "sums.jsonl"
    sums.write_text('{"id": "one", "question": "What is 1+1?", "answer": "2"}\n')
    chat = Chat()
    server = {"url": "http://127.0.0.1:9/v1"}
    content = {"engine": "openai", "served_model": "o9", "chat": {}, "efforts": ["low", "high"], "budgets": ["auto"]}
    tasks = [{"name": "sums", "path": str(sums)}]
    config = EvaluateConfig.model_validate_json(json.dumps(content | {"tasks": tasks, "resources": {"server": server}}))
    context = StepContext("experiment", "o9", "0123456789abcdef", tmp_path / "o9", tmp_path / "traces")
    context.output.mkdir(parents=True)
    # What it answered is there, so nobody is asked.
    determined_by = {"served_model": "o9", "chat": chat.model_dump(mode="json"), "seed": 0}
    replies = Replies(traces_folder(context.traces, determined_by), report=print)
    key = unit_key("one", list(put("What is 1+1?", None).encode()))
    for effort, said in ((None, "2"), ("low", "3"), ("high", "2")):
        replies.add([(Asked(key, 0, effort, None), Answer(f"Answer: {said}", 40, 4, "stop"))])
    samples = context.output / "samples.parquet"
    with Grader() as grader:
        totals = answer(config, context, tasks_of(config, context), samples, grader) | {"seconds": 1.0}
    (context.output / "decode.json").write_text(json.dumps(totals))
    publish(config, context, samples, totals)

    data = packed(written(FinishedStep(config, context, None, None), tmp_path / "report"))
    record = data["s0-t0-0"]
    assert record["question"] == "What is 1+1?"
    assert {each["text"] for each in record["answers"]} == {"Answer: 2", "Answer: 3"}
    assert "only chats" in record["note"]
    assert not record["branches"]
