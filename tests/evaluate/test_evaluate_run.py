"""The whole step, with a real engine on a random model: decoding, resuming, extending, and what is in the samples."""

from __future__ import annotations

import json
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.run import prepare, run
from jobs.evaluate.traces.files import Index
from orchestrator.job.context import StepContext
from orchestrator.job.errors import StepError
from tests.evaluate import tiny

pytestmark = pytest.mark.usefixtures("cluster")

ITEMS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("task") / "questions.jsonl"
    lines = [
        {"id": f"q{number}", "question": f"What is {number}+{number}?", "answer": "4"} for number in range(ITEMS - 1)
    ]
    lines.append({"id": "long", "question": "x" * 300, "answer": "4"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def sweep(model: Path, questions: Path) -> dict[str, Any]:
    return {
        "model": str(model),
        "tasks": [{"name": "sums", "path": str(questions)}],
        "budgets": [4, 16, "auto"],
        "extensions": {"strings": ["Wait", ""], "counts": [1, 2]},
        "max_answer_tokens": 12,
    }


def evaluate(store: Path, step: str, fields: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Runs the step in `store`; returns its samples, and what decoding took."""
    (store / step).mkdir(parents=True)
    context = StepContext("experiment", "sweep", step, store / step, store / "traces")
    run(EvaluateConfig.model_validate_json(json.dumps(fields)), context)
    progress = json.loads((context.folder / "progress.json").read_text())
    assert progress["done"] == progress["total"]
    assert json.loads((context.folder / "held.json").read_text())["devices"] == 0
    decode = json.loads((context.output / "decode.json").read_text())
    return pd.read_parquet(context.output / "samples.parquet"), decode


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, sweep: dict[str, Any]
) -> tuple[Path, pd.DataFrame, dict[str, Any]]:
    store = tmp_path_factory.mktemp("store")
    return store, *evaluate(store, "first", sweep)


def test_there_is_a_row_for_every_item_and_policy_in_order(finished: tuple[Path, pd.DataFrame, dict[str, Any]]) -> None:
    _, samples, decode = finished
    policies = ["4", "16", "auto", '1x"Wait"', '2x"Wait"', '1x""', '2x""']
    assert samples["policy"].tolist() == policies * ITEMS
    assert (
        samples["item"].tolist() == [item for number in range(ITEMS - 1) for item in [f"q{number}"] * 7] + ["long"] * 7
    )
    assert set(samples["task"]) == {"sums"}
    assert decode["units"] == ITEMS
    alone = samples["thinking_tokens"] - samples["injected_tokens"] + samples["answer_tokens"]
    assert decode["policies_alone_tokens"] == alone.sum()
    assert 0 < decode["costs"]["device_seconds"] < decode["seconds"]
    assert 0 < decode["thinking_tokens_decoded"] + decode["answer_tokens_decoded"] < alone.sum()


def test_a_replica_says_in_a_log_of_its_own_where_it_ran(finished: tuple[Path, pd.DataFrame, dict[str, Any]]) -> None:
    store, _, _ = finished
    said = (store / "first" / "logs" / "replica-0.txt").read_text()
    assert said.startswith(f"--- replica-0 on {socket.gethostname()}, process ")


def test_a_prompt_beyond_the_context_has_no_answer_and_the_rest_goes_on(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]],
) -> None:
    _, samples, _ = finished
    long = samples[samples["item"] == "long"]
    assert set(long["thinking_end"]) == set(long["answer_end"]) == {"context"}
    assert set(long["verdict"]) == {"no_answer"}
    assert set(long["answer"]) == {""}
    assert "natural" in set(samples["thinking_end"])


def test_the_same_again_decodes_nothing_and_needs_no_engine(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]], sweep: dict[str, Any]
) -> None:
    store, samples, _ = finished
    impossible = sweep | {"resources": {"cpus": 1000, "wait": 1.0}}
    again, decode = evaluate(store, "again", impossible)
    pd.testing.assert_frame_equal(samples, again)
    assert decode["thinking_tokens_decoded"] == decode["answer_tokens_decoded"] == 0


def test_a_budget_added_decodes_no_thinking(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]], sweep: dict[str, Any]
) -> None:
    store, samples, _ = finished
    more, decode = evaluate(store, "more", sweep | {"budgets": [1, 4, 9, 16, "auto"]})
    assert decode["thinking_tokens_decoded"] == 0
    assert decode["answer_tokens_decoded"] > 0
    kept = more[more["policy"].isin(set(samples["policy"]))].reset_index(drop=True)
    pd.testing.assert_frame_equal(samples, kept)


def test_an_interrupted_and_damaged_store_ends_with_the_same_samples(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]],
    sweep: dict[str, Any],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Thinking up to 4 tokens is there from another sweep; half of the answers' files are torn."""
    _, samples, whole = finished
    _, before = evaluate(
        tmp_path, "before", sweep | {"budgets": [4], "extensions": {"strings": ["Wait"], "counts": [1], "budgets": [4]}}
    )
    (folder,) = (tmp_path / "traces").iterdir()
    extra = folder / "99999999999999999999-torn.parquet"
    shutil.copy(min(folder.glob("*.parquet")), extra)
    os.truncate(extra, extra.stat().st_size // 2)
    resumed, decode = evaluate(tmp_path, "resumed", sweep)
    pd.testing.assert_frame_equal(samples, resumed)
    assert "is damaged" in capfd.readouterr().out
    total = before["thinking_tokens_decoded"] + decode["thinking_tokens_decoded"]
    assert total == whole["thinking_tokens_decoded"]
    assert decode["thinking_tokens_decoded"] < total


def test_policies_removed_decode_nothing(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]], sweep: dict[str, Any]
) -> None:
    store, samples, _ = finished
    fewer = sweep | {"budgets": [4], "extensions": {"strings": ["Wait"], "counts": [2]}}
    less, decode = evaluate(store, "less", fewer)
    assert decode["thinking_tokens_decoded"] == decode["answer_tokens_decoded"] == 0
    kept = samples[samples["policy"].isin({"4", '2x"Wait"'})].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, less)


def test_strings_counts_and_samples_added_decode_only_what_is_missing(sweep: dict[str, Any], tmp_path: Path) -> None:
    small = sweep | {"extensions": {"strings": ["Wait"], "counts": [1]}, "temperature": 1.0, "samples": 2}
    large = small | {"extensions": {"strings": ["Wait", "Hmm"], "counts": [1, 2]}, "samples": 3}
    _, first = evaluate(tmp_path, "small", small)
    added, second = evaluate(tmp_path, "large", large)
    apart, whole = evaluate(tmp_path / "apart", "large", large)
    pd.testing.assert_frame_equal(added, apart)
    for tokens in ("thinking_tokens_decoded", "answer_tokens_decoded"):
        assert 0 < first[tokens] < whole[tokens]
        assert first[tokens] + second[tokens] == whole[tokens]


def test_two_sweeps_on_one_store_at_once_both_finish_and_share_what_they_decode(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]], sweep: dict[str, Any], tmp_path: Path
) -> None:
    _, samples, whole = finished
    other = sweep | {"budgets": [4, 16], "extensions": {"strings": ["Wait"], "counts": [1, 2, 3]}}
    with ThreadPoolExecutor(2) as both:
        one, two = both.map(partial(evaluate, tmp_path), ("one", "two"), (sweep, other))
    pd.testing.assert_frame_equal(samples, one[0])
    known = set(samples["policy"])
    common = two[0][two[0]["policy"].isin(known)].reset_index(drop=True)
    alone = samples[samples["policy"].isin(set(common["policy"]))].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, common)
    assert set(two[0]["policy"]) - known == {'3x"Wait"'}
    again, nothing = evaluate(tmp_path, "again", other)
    pd.testing.assert_frame_equal(two[0], again)
    assert nothing["thinking_tokens_decoded"] == nothing["answer_tokens_decoded"] == 0
    assert one[1]["thinking_tokens_decoded"] + two[1]["thinking_tokens_decoded"] >= whole["thinking_tokens_decoded"]


METHODS = {
    "extensions": None,
    "budgets": [8, "auto"],
    "baseline": True,
    "conditional": {"tokens": [4, 8], "steps": [2], "classes": ["short"], "budget_forcing": True},
    "rejection": {"limits": [4, 24], "max_tries": 3},
    "samples": 4,
    "temperature": 1.0,
}


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory, sweep: dict[str, Any]) -> tuple[Path, pd.DataFrame]:
    store = tmp_path_factory.mktemp("methods")
    return store, evaluate(store, "methods", sweep | METHODS)[0]


def test_every_method_is_one_sweep_with_one_table(methods: tuple[Path, pd.DataFrame]) -> None:
    store, samples = methods
    policies = EvaluateConfig.model_validate_json(json.dumps({"model": "m/m", "tasks": ["letters"]} | METHODS)).policies
    rows = samples.groupby("policy").size()
    assert dict(rows) == {policy.name: ITEMS * 4 for policy in policies}
    asked = samples.groupby("policy")["asked"].first()
    assert {name: asked[name] for name in ("8", "token-conditional 4", "step-conditional 2")} == {
        "8": 8,
        "token-conditional 4": 4,
        "step-conditional 2": 2,
    }
    assert asked[["auto", "no forcing", "class-conditional short"]].isna().all()
    curves = json.loads((store / "methods" / "output" / "curves.json").read_text())
    assert [curve["curve"] for curve in curves] == [
        "budget",
        "no forcing",
        *(f"{kind}-conditional" for kind in ("token", "step", "class")),
        *(f"{kind}-conditional + budget forcing" for kind in ("token", "step", "class")),
        "rejection sampling",
        "pass@k",
        "majority@k",
    ]
    table = pd.read_csv(store / "methods" / "output" / "table.csv")
    assert table["tries"].notna().sum() == table["accepted_share"].notna().sum() == 2


def test_the_baseline_is_the_natural_end_and_no_answer_where_there_is_none(methods: tuple[Path, pd.DataFrame]) -> None:
    _, samples = methods
    auto, baseline = (
        samples[samples["policy"] == name].set_index(["item", "sample"]) for name in ("auto", "no forcing")
    )
    ended = auto["thinking_end"] == "natural"
    assert 0 < ended.sum() < len(auto)
    pd.testing.assert_frame_equal(auto[ended].drop(columns="policy"), baseline[ended].drop(columns="policy"))
    cut = baseline[~ended].reset_index()
    assert set(cut["thinking_end"]) == {"context"}
    assert set(cut["answer"]) == {""}
    assert set(cut["verdict"]) == {"no_answer"}
    assert set(cut[cut["item"] != "long"]["answer_end"]) == {"none"}


@pytest.mark.parametrize("limit", [4, 24])
def test_rejection_sampling_takes_the_first_of_the_samples_that_ends_within_the_limit(
    methods: tuple[Path, pd.DataFrame], limit: int
) -> None:
    _, samples = methods
    baseline = samples[samples["policy"] == "no forcing"].set_index(["item", "sample"])
    found = samples[samples["policy"] == f"rejection sampling {limit}"]
    assert {"natural", "rejected"} <= set(found["thinking_end"])
    for row in found.itertuples():
        turn = [baseline.loc[(row.item, (row.sample + number) % 4)] for number in range(3)]
        fits = [each["thinking_end"] == "natural" and each["thinking_tokens"] <= limit for each in turn]
        assert row.tries == (fits.index(True) + 1 if any(fits) else 3)
        if any(fits):
            taken = turn[fits.index(True)]
            assert (row.thinking_tokens, row.answer) == (taken["thinking_tokens"], taken["answer"])
        else:
            assert (row.answer, row.answer_tokens, row.verdict) == ("", 0, "no_answer")


def test_a_wish_is_another_prompt_with_traces_of_its_own(methods: tuple[Path, pd.DataFrame]) -> None:
    _, samples = methods
    rows = samples[samples["item"] == "q0"].set_index(["policy", "sample"])["thinking_tokens"]
    natural, short = ([rows[name, sample] for sample in range(4)] for name in ("no forcing", "class-conditional short"))
    assert natural != short
    cut = [rows["token-conditional 8 + budget forcing", sample] for sample in range(4)]
    assert cut == [min(8, rows["token-conditional 8", sample]) for sample in range(4)]


def test_a_method_added_to_a_finished_sweep_decodes_no_thinking_again(
    methods: tuple[Path, pd.DataFrame], sweep: dict[str, Any]
) -> None:
    store, samples = methods
    more = METHODS | {"rejection": {"limits": [2, 4, 24], "max_tries": 4}}
    again, decode = evaluate(store, "more methods", sweep | more)
    assert decode["thinking_tokens_decoded"] == decode["answer_tokens_decoded"] == 0
    assert "rejection sampling 2" in set(again["policy"]) - set(samples["policy"])


def test_steps_are_cut_where_the_next_begins(sweep: dict[str, Any], tmp_path: Path) -> None:
    """The random model writes the header now and then; its steps are the same whatever they are compared with."""
    stepped = sweep | {"extensions": None, "budgets": ["auto"], "samples": 4, "temperature": 4.0}
    stepped["template"] = {"name": "think", "step": "<|im_start|>"}
    one, first = evaluate(tmp_path, "one", stepped | {"budgets": [3], "step_budgets": [1]})
    more, second = evaluate(tmp_path, "more", stepped | {"step_budgets": [1, 2]})
    apart, whole = evaluate(tmp_path / "apart", "more", stepped | {"step_budgets": [1, 2]})
    pd.testing.assert_frame_equal(more, apart)
    keys = ["item", "sample"]
    rows = {name: frame.set_index(keys) for name, frame in more.groupby("policy")}
    alone = one[one["policy"] == "step budget 1"].set_index(keys)
    pd.testing.assert_frame_equal(alone, rows["step budget 1"], check_dtype=False)
    assert first["thinking_tokens_decoded"] + second["thinking_tokens_decoded"] == whole["thinking_tokens_decoded"]
    short, long, auto = (rows[name]["thinking_tokens"] for name in ("step budget 1", "step budget 2", "auto"))
    assert (short <= long).all()
    assert (long <= auto).all()
    assert (short < long).any()
    assert set(rows["step budget 1"]["thinking_end"]) >= {"forced", "natural"}
    assert set(rows["step budget 1"]["asked"]) == {1}


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"temperature": 0.5}, {"template": "think", "dtype": "bfloat16"}, {"engine": "vllm"}]
)
def test_what_determines_traces_has_a_folder_of_its_own(
    finished: tuple[Path, pd.DataFrame, dict[str, Any]], sweep: dict[str, Any], change: dict[str, Any]
) -> None:
    store, _, _ = finished
    context = StepContext("experiment", "sweep", "first", store / "first", store / "traces")
    folders = {
        prepare(EvaluateConfig.model_validate_json(json.dumps(fields)), context).folder
        for fields in (sweep, sweep | change, sweep | {"budgets": [3]}, sweep | {"resources": {"in_flight": 2}})
    }
    assert len(folders) == 2


def test_a_sweep_says_what_decoded_it(finished: tuple[Path, pd.DataFrame, dict[str, Any]]) -> None:
    _, _, decode = finished
    (kind,) = decode["decoded_by"]
    assert (kind["engine"], kind["dtype"], kind["tensor_parallel_size"]) == ("transformers", "float32", 1)
    assert kind["version"]
    assert kind["card"]


def test_traces_say_what_determined_them(finished: tuple[Path, pd.DataFrame, dict[str, Any]]) -> None:
    store, _, _ = finished
    key = json.loads(next((store / "traces").glob("*/key.json")).read_text())
    assert set(key) == {"model", "delimiters", "sampling", "seed", "numerics"}


def test_index_of_a_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert Index(tmp_path / "none", print).unit("a", 0).extents == {}


def test_a_context_beyond_the_model_is_said_before_anything_starts(sweep: dict[str, Any], tmp_path: Path) -> None:
    context = StepContext("experiment", "sweep", "x", tmp_path, tmp_path / "traces")
    with pytest.raises(StepError, match="context_length: 100000 is beyond the 256 positions"):
        prepare(EvaluateConfig.model_validate_json(json.dumps(sweep | {"context_length": 100_000})), context)


def test_a_model_that_is_damaged_is_said_in_one_line(model: Path, sweep: dict[str, Any], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (broken / "config.json").write_text("{}")
    context = StepContext("experiment", "sweep", "x", tmp_path, tmp_path / "traces")
    with pytest.raises(StepError, match=r"model: .*broken cannot be loaded"):
        prepare(EvaluateConfig.model_validate_json(json.dumps(sweep | {"model": str(broken)})), context)
