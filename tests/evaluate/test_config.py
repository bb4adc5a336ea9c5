from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.evaluate.config import EvaluateConfig
from jobs.evaluate.sweep.curves import curves
from jobs.evaluate.sweep.policy import Mark, Root

SWEEP: dict[str, Any] = {
    "model": "${tiny}",
    "tasks": ["letters"],
    "budgets": [4, 8, 16, 32, "auto"],
    "extensions": {"strings": ["Wait", "Hmm", "Alternatively", ""], "counts": [1, 2, 4]},
}

JUDGED = {"name": "essay", "path": "essay.jsonl", "type": "judged"}


def config(**changes: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate_json(json.dumps(SWEEP | changes))


def test_the_shipped_sweep_has_17_policies_on_200_items() -> None:
    assert config().describe() == "17 policies x 200 items"
    assert config(budgets=["auto"], extensions=None).describe() == "1 policy x 200 items"
    assert config().notes() == []
    assert list(config().problems()) == []


def test_items_of_another_step_are_said_to_be_its_own() -> None:
    assert config(tasks=["${words}"]).describe() == "17 policies x the items of ${words}"
    assert config(tasks=["${words}", "letters"]).describe() == "17 policies x 200 items and the items of ${words}"
    assert config(tasks=[{"name": "few", "path": "${words}", "items": 5}]).describe() == "17 policies x 5 items"


def test_lists_in_any_order_mean_the_same_and_that_is_said() -> None:
    shuffled = config(budgets=["auto", 16, 8, 32, 4, 8], extensions=SWEEP["extensions"] | {"counts": [4, 2, 1, 1]})
    assert shuffled.policies == config().policies
    assert shuffled.model_dump_json() == config().model_dump_json()
    assert [note.partition(":")[0] for note in shuffled.notes()] == ["budgets", "extensions.counts"]
    assert "[4, 8, 16, 32, 'auto']" in shuffled.notes()[0]


def test_batch_invariance_says_what_it_costs() -> None:
    (note,) = config(batch_invariant=True, resources={"gpus": 1}).notes()
    assert note.startswith("batch_invariant: slower: ")


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"budgets": [16, -1]}, ("budgets", 1), "-1 is not a number of tokens"),
        ({"budgets": [0]}, ("budgets", 0), "0 is not a number of tokens"),
        ({"budgets": [True]}, ("budgets", 0), "True is not a number of tokens"),
        ({"budgets": [1.5]}, ("budgets", 0), "1.5 is not a number of tokens"),
        ({"budgets": ["max"]}, ("budgets", 0), "'max' is not a number of tokens"),
        ({"budgets": []}, ("budgets",), "empty"),
        ({"tasks": []}, ("tasks",), "empty"),
        ({"template": "none", "extensions": None}, (), "budgets: needs thinking that can be told from the answer"),
        ({"template": "none", "budgets": ["auto"]}, (), "extensions: needs thinking that can be told from the answer"),
        ({"template": {"name": "none", "step": "<step>"}}, ("template",), "none cannot have a step"),
        ({"template": {"open": "<a>", "close": "</b><a>"}}, ("template",), "close '</b><a>' contains open '<a>'"),
        ({"template": {"open": "</b><a>", "close": "</b>"}}, ("template",), "open '</b><a>' contains close '</b>'"),
        ({"template": {"name": "glm", "plain": True}}, ("template",), "plain: 'glm' says itself what it is"),
        ({"system": ""}, ("system",), "at least 1 character"),
        ({"date": "today"}, ("date",), "valid date"),
        ({"chat_template_kwargs": {"messages": []}}, (), "chat_template_kwargs.messages: is set by the sweep"),
        ({"published": {"accuracy": {}}}, ("published", "source"), "Field required"),
        (
            {"published": {"source": "-", "accuracy": {"letters": {"auto": 101}}}},
            ("published", "accuracy", "letters", "auto", "accuracy"),
            "less than or equal to 100",
        ),
        ({"extensions": {"strings": ["Wait"], "counts": [0]}}, ("extensions", "counts", 0), "0 is not a count"),
        ({"extensions": {"strings": [], "counts": [1]}}, ("extensions", "strings"), "empty"),
        ({"extensions": {"strings": ["Wait"]}}, ("extensions", "counts"), "required"),
        ({"samples": 2000, "temperature": 1.0}, ("samples",), "less than or equal to 1024"),
        ({"samples": 4}, (), "samples: 4 needs a temperature above 0"),
        ({"top_p": 0.9}, (), "top_p: 0.9 needs a temperature above 0"),
        ({"batch_invariant": True}, (), "is for vllm on GPUs, and this is transformers with 0 GPUs"),
        ({"batch_invariant": True, "engine": "vllm"}, (), "and this is vllm with 0 GPUs: set resources.gpus"),
        (
            {"engine": "transformers", "resources": {"gpus": 2}},
            (),
            "resources.gpus: 2 are too many: engine transformers",
        ),
        ({"resources": {"token_deadline": 0}}, ("resources", "token_deadline"), "greater than 0"),
        (
            {"resources": {"max_num_seqs": 512, "max_num_batched_tokens": 256}},
            ("resources",),
            "max_num_batched_tokens: 256 is less than max_num_seqs 512",
        ),
        ({"resources": {"max_num_seqs": 0}}, ("resources", "max_num_seqs"), "greater than or equal to 1"),
        ({"temperature": -1}, ("temperature",), "greater than or equal to 0"),
        ({"engine": "vlm"}, ("engine",), "'auto', 'transformers', 'vllm' or 'openai'"),
        ({"template": "thinking"}, ("template",), "known are auto, deepseek-r1, gemma4, glm, gpt-oss,"),
        ({"template": {"open": "<a>"}}, ("template",), "both open and close"),
        ({"template": {"name": "s1", "open": "<a>", "close": "<b>"}}, ("template",), "has delimiters of its own"),
        ({"template": {"open": "", "close": "<b>"}}, ("template", "open"), "at least 1 character"),
        ({"template": {"opens": "<a>", "name": "s1"}}, ("template", "opens"), "not permitted"),
        ({"max_answer_tokens": 0}, ("max_answer_tokens",), "0 is not a number of tokens"),
        ({"step_budgets": [2]}, (), "step_budgets: needs the header of a step"),
        ({"step_budgets": [0]}, ("step_budgets", 0), "0 is not a limit"),
        ({"template": {"name": "auto", "step": "<step>"}}, ("template",), "auto cannot have a step"),
        ({"conditional": {}}, ("conditional",), "give tokens, steps or classes"),
        ({"conditional": {"tokens": [0]}}, ("conditional", "tokens", 0), "0 is not a limit"),
        ({"conditional": {"tokens": []}}, ("conditional", "tokens"), "empty"),
        ({"conditional": {"classes": ["huge"]}}, ("conditional", "classes", 0), "'short' or 'long'"),
        ({"rejection": {"limits": [8], "max_tries": 2}}, (), "rejection: needs a temperature above 0"),
        (
            {"rejection": {"limits": [8], "max_tries": 5}, "temperature": 1.0, "samples": 4},
            (),
            "max_tries 5 is more than the 4 samples",
        ),
        ({"rejection": {"limits": [], "max_tries": 1}, "temperature": 1.0}, ("rejection", "limits"), "empty"),
        ({"samples": 16, "temperature": 1.0, "at_k": [64]}, (), "at_k: 64 is more than the 16 samples"),
        ({"at_k": []}, ("at_k",), "empty"),
        ({"at_k": [0]}, ("at_k", 0), "0 is not a number of samples: give whole numbers from 1"),
        ({"votes": []}, ("votes",), "empty"),
        ({"votes": ["plurality"]}, ("votes", 0), "'pass', 'majority', 'weighted' or 'best'"),
        ({"votes": ["best"], "scores": ["charm"]}, ("scores", 0), "'exact', 'length' or 'scorer'"),
        (
            {"votes": ["best"], "scores": ["scorer"], "samples": 4, "temperature": 1.0},
            (),
            "scores: scorer is what the sweep's scorer says of whole traces: give search and scored",
        ),
        (
            {"votes": ["majority", "weighted"], "samples": 4, "temperature": 1.0},
            (),
            "votes: weighted goes by a score of each sample: give scores: one or more of exact, length",
        ),
        (
            {"scores": ["length"], "samples": 4, "temperature": 1.0},
            (),
            "scores: length is taken by no vote: add weighted or best to votes, or leave it out",
        ),
        (
            {"votes": ["best"], "scores": ["length"]},
            (),
            "votes: best takes several samples of each item, and samples is 1: raise it",
        ),
        ({"stop_strings": []}, ("stop_strings",), "empty"),
        ({"stop_strings": ["a", ""]}, ("stop_strings", 1), "is empty: give at least one character"),
        ({"ban": [""]}, ("ban", 0), "is empty: give at least one character"),
        ({"ban": ["Wait"], "template": "none", "budgets": ["auto"], "extensions": None}, (), "ban: needs thinking"),
        (
            {"efforts": ["low"], "template": "none", "extensions": None, "budgets": ["auto"]},
            (),
            "efforts: needs thinking",
        ),
        ({"efforts": ["huge"]}, ("efforts", 0), "'high', 'xhigh' or 'max'"),
        ({"closings": ["{close}{close}"]}, (), "has {close} twice"),
        ({"closings": ["So <think>"]}, (), "contains '<think>', which opens thinking: leave it out"),
        ({"closings": ["So</think>"]}, (), "contains '</think>', which closes thinking: write {close} where it goes"),
        ({"judge": {"model": "m/j"}}, (), "judge: no task is of type judged"),
        ({"tasks": [JUDGED]}, (), "judge: task 'essay' is of type judged: give judge: {model"),
        ({"tasks": [JUDGED], "judge": {"model": "m/j", "engine": "openai"}}, ("judge",), "served_model go together"),
        (
            {"tasks": [JUDGED], "judge": {"model": "m/j", "engine": "openai", "served_model": "j"}},
            (),
            "resources.judge.server: goes with a judge.engine on a server",
        ),
        ({"tasks": ["letters", "letters"]}, (), "'letters' is given twice"),
        ({"resources": {"replicas": {"min": 3, "max": 2}}}, ("resources", "replicas"), "min 3 is more than max 2"),
    ],
)
def test_what_cannot_be_meant_is_one_error_that_names_it(
    change: dict[str, Any], field: tuple[str | int, ...], said: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        config(**change)
    (error,) = caught.value.errors()
    assert error["loc"] == field
    assert said in error["msg"]


def test_every_method_of_the_paper_is_in_one_sweep() -> None:
    asked = config(
        budgets=["auto"],
        extensions=None,
        baseline=True,
        conditional={"tokens": [64, 16], "steps": [4], "classes": ["short", "long"], "budget_forcing": True},
        rejection={"limits": [32, 8], "max_tries": 4},
        samples=4,
        temperature=1.0,
    )
    assert [policy.name for policy in asked.policies] == [
        "auto",
        "no forcing",
        *(alone := ["token-conditional 16", "token-conditional 64", "step-conditional 4"]),
        *(words := ["class-conditional short", "class-conditional long"]),
        *(f"{name} + budget forcing" for name in alone + words),
        "rejection sampling 8",
        "rejection sampling 32",
    ]
    assert [note.partition(":")[0] for note in asked.notes()] == [
        "conditional.tokens",
        "rejection.limits",
    ]


def test_a_chat_server_is_asked_for_none_of_what_only_open_weights_can_do() -> None:
    asked = {"stop_strings": ["a"], "ban": ["b"], "closings": [""], "extensions": None, "budgets": [4], "model": None}
    server = {"engine": "openai", "served_model": "m", "resources": {"server": {"url": "http://host/v1"}}}
    chat = config(**asked, **server, chat={"budget": "budget"}, efforts=["low"])
    assert [problem.field for problem in chat.problems()] == [("stop_strings",), ("ban",), ("closings",)]
    assert len({problem.message for problem in chat.problems()}) == 2


def test_efforts_bans_and_closings_vary_the_policies_before_them() -> None:
    varied = config(
        budgets=[8, "auto"],
        extensions={"strings": ["Wait"], "counts": [1]},
        efforts=["low", "none"],
        ban=["Hmm", "But"],
        closings=["", "Final Answer:"],
    )
    names = [policy.name for policy in varied.policies]
    assert names == [
        *(plain := ["8", "auto", '1x"Wait"']),
        "reasoning effort none",
        *(low := [f"{name} (effort low)" for name in plain]),
        *(f"{name} (without Hmm, But)" for name in plain + low),
        '8 (closed by "")',
        '8 (effort low) (closed by "")',
        '8 (without Hmm, But) (closed by "")',
        '8 (effort low) (without Hmm, But) (closed by "")',
    ]
    found = {curve.name: [point.name for point in curve.points] for curve in curves(varied.policies)}
    assert found["Wait (effort low)"] == ["auto (effort low)", '1x"Wait" (effort low)']
    assert found["budget (without Hmm, But)"] == ["8 (without Hmm, But)", "auto (without Hmm, But)"]


def test_steps_are_enforced_where_the_model_writes_headers() -> None:
    wishes = {"steps": [4], "budget_forcing": True}
    without = config(conditional=wishes).policies[-1]
    stepped = config(conditional=wishes, step_budgets=[8, 2], template={"name": "think", "step": "<step>"})
    assert (without.name, without.route.mark) == ("step-conditional 4 + budget forcing", None)
    assert (stepped.policies[-1].name, stepped.policies[-1].route.mark) == (without.name, Mark("step", number=4))
    assert [policy.name for policy in stepped.policies if policy.route.mark and policy.root == Root()] == [
        "step budget 2",
        "step budget 8",
    ]
    assert str(stepped.template) == "think, steps <step>"


def test_a_template_is_a_style_or_delimiters_or_the_tokenizers_own() -> None:
    assert config().template.style == config(template={"name": "think"}).template.style
    assert config(template="auto").template.style is None
    own = config(template={"open": "<a>", "close": "</a>"}).template
    assert own.style is not None
    assert (own.style.open, own.style.close, str(own)) == ("<a>", "</a>", "<a> … </a>")


def test_a_model_folder_must_be_one(tmp_path: Path) -> None:
    def said(model: Path) -> list[str]:
        return [problem.message for problem in config(model=str(model)).problems()]

    assert "is not a folder" in said(tmp_path / "missing")[0]
    assert "no config.json" in said(tmp_path)[0]
    (tmp_path / "config.json").write_text("{}")
    assert "no tokenizer.json" in said(tmp_path)[0]
    (tmp_path / "tokenizer.json").write_text("{}")
    assert said(tmp_path) == []
    assert config(model=str(tmp_path)).external_inputs() == {"model": tmp_path}


def test_a_name_on_the_hub_is_no_folder() -> None:
    hub = config(model="simplescaling/s1-32B")
    assert hub.model_folder is None
    assert list(hub.problems()) == []


def test_task_files_are_looked_at_before_anything_starts(tmp_path: Path) -> None:
    missing = config(tasks=[{"name": "mine", "path": str(tmp_path / "none.jsonl")}])
    assert [problem.field for problem in missing.problems()] == [("tasks", 0, "path")]


def test_resources_say_what_a_replica_holds_and_are_no_part_of_what_a_sweep_is() -> None:
    small, large = config(), config(resources={"gpus": 2, "cpus": 8, "replicas": {"min": 2, "max": 4}})
    assert small.demands() == [{"CPU": 1.0}]
    assert large.demands() == [{"CPU": 8.0, "GPU": 2.0}] * 2
    assert small.engine_name == "transformers"
    assert large.engine_name == "vllm"
    assert config(engine="vllm").engine_name == "vllm"
    assert small.model_dump_json(exclude={"resources"}) == large.model_dump_json(exclude={"resources"})


def test_importing_the_config_loads_nothing_heavy() -> None:
    heavy = ["torch", "ray", "transformers", "vllm", "numpy", "pandas", "pyarrow", "mlflow"]
    code = f"import sys, jobs.evaluate.config; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
