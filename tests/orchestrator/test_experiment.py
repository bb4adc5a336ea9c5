"""An experiment file is read as its author meant it, or refused with every reason at once."""

from __future__ import annotations

import os
import random
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.complaints import ExperimentError
from orchestrator.experiment import Experiment, load

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "experiments").rglob("*.yaml"))
SWEEP = """\
#!/usr/bin/env -S python -m orchestrator run
# How accuracy grows with thinking tokens, on a model small enough to train here.
name: scaling-sweep
steps:
  letters:
    job: letters
    train: 96000
    test: 200
  tiny:
    job: finetune
    model: {random: qwen2, layers: 2, hidden_size: 128}
    data: ${letters}
    strategy: fsdp
    resources: {workers: 2}
  sweep:
    job: evaluate
    model: ${tiny}
    tasks: ["${letters}"]
    budgets: [4, 8, 16, 32, auto]
    extensions: {strings: [Wait, Hmm, Alternatively, ""], counts: [1, 2, 4]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


def read(file: Path, text: str, *overrides: str) -> Experiment:
    file.write_text(text)
    return load(file, overrides)


def complaints(file: Path, text: str, *overrides: str) -> list[str]:
    """The messages, each as ``line: message``."""
    with pytest.raises(ExperimentError) as caught:
        read(file, text, *overrides)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_experiment_is_accepted_executable_and_an_entrypoint(shipped: Path) -> None:
    load(shipped)
    assert os.access(shipped, os.X_OK)
    assert shipped.read_text().splitlines()[0] == "#!/usr/bin/env -S python -m orchestrator run"


@pytest.mark.parametrize(
    ("step", "machine", "resources", "complaint"),
    [
        ("tiny", "g6e.xlarge", {"gpus_per_worker": 1, "cpus_per_worker": 8},
         "g6e.xlarge has 4 CPU, 1 GPU, and 8 CPU, 1 GPU must be on one machine: take g6e.48xlarge, or ask for less"),
        ("tiny", "g6e.xlarge", {"gpus_per_worker": 1, "cpus_per_worker": 4}, None),
        ("tiny", "m7i.2xlarge", {"gpus_per_worker": 1}, "m7i.2xlarge has 8 CPU, 0 GPU, and 1 CPU, 1 GPU must"),
        ("sweep", "l40s", {"gpus": 9}, "g6e.48xlarge has 192 CPU, 8 GPU, and 1 CPU, 9 GPU must be on one machine: ask"),
        ("sweep", "l40s", {"gpus": 8}, None),
        ("sweep", "g6e.xlarge", {"gpus": 2}, "g6e.xlarge has 4 CPU, 1 GPU, and 1 CPU, 2 GPU must be on one machine"),
    ],
)  # fmt: skip
def test_what_no_machine_of_the_named_kind_can_hold_is_refused(
    file: Path, step: str, machine: str, resources: dict[str, int], complaint: str | None
) -> None:
    overrides = [f"steps.{step}.resources.{name}={value}" for name, value in resources.items()]
    named = f"steps.{step}.resources.machine={machine}"
    if complaint is None:
        assert read(file, SWEEP, *overrides, named).notes == ()
        return
    [said] = complaints(file, SWEEP, *overrides, named)
    assert f"steps.{step}.resources.machine: {complaint}" in said


def test_where_no_machine_is_named_what_the_assumed_one_cannot_hold_is_a_note(file: Path) -> None:
    assert read(file, SWEEP, "steps.sweep.resources.gpus=16").notes == (
        "sweep: resources.machine is not set, and the one assumed is too small: p5.48xlarge has 192 CPU, 8 GPU, and 1 "
        "CPU, 16 GPU must be on one machine: ask for less",
    )


def test_steps_come_after_those_they_refer_to(file: Path) -> None:
    name, steps = SWEEP.split("steps:\n")
    letters, tiny, sweep = re.split(r"(?m)^(?=  \w+:\n)", steps)[1:]
    experiment = read(file, f"{name}steps:\n{sweep.rstrip()}\n{tiny}{letters}")
    assert list(experiment.steps) == ["letters", "tiny", "sweep"]


def test_an_override_replaces_a_value_and_may_add_one(file: Path) -> None:
    experiment = read(file, SWEEP, "steps.sweep.budgets=[16, 32]", "steps.sweep.seed=3", "steps.sweep.tasks.0=letters")
    config = experiment.steps["sweep"].config.model_dump(mode="json")
    assert (config["budgets"], config["seed"], config["tasks"][0]["path"]) == ([16, 32], 3, None)


def test_unordered_and_repeated_budgets_are_sorted_and_that_is_said(file: Path) -> None:
    experiment = read(file, SWEEP, "steps.sweep.budgets=[auto, 32, 4, 32]")
    assert experiment.notes == ("sweep: budgets: ['auto', 32, 4, 32] taken as [4, 32, 'auto']",)
    ordered = read(file, SWEEP, "steps.sweep.budgets=[4, 32, auto]")
    assert ordered.notes == ()


BAD = {
    "renamed key": (
        ("budgets: [", "together: [1]\n    budgets: ["),
        "19: steps.sweep.together: is not a key here; did you mean 'at_k'?",
    ),
    "unknown key": (("budgets:", "budget:"), "19: steps.sweep.budget: is not a key here; did you mean 'budgets'?"),
    "unknown key in a mapping": (
        ("counts:", "count:"),
        "20: steps.sweep.extensions.count: is not a key here; did you mean 'counts'?",
    ),
    "wrong type": (("train: 96000", "train: many"), '7: steps.letters.train: "many": must be a valid integer'),
    "empty text": (
        ("job: evaluate", 'job: evaluate\n    template: {open: "", close: "</a>"}'),
        '17: steps.sweep.template.open: "": must have at least 1 character',
    ),
    "tab": (("    job: letters", "\tjob: letters"), "6: a tab where YAML wants spaces: indent with spaces"),
    "duplicate key": (("test: 200", "train: 1"), "8: duplicate key 'train': it stands in line 7 too"),
    "missing file": (
        ('"${letters}"', "{name: mine, path: nowhere.jsonl}"),
        "18: steps.sweep.tasks[0].path: 'nowhere.jsonl' is not a file: give a JSONL or CSV file of questions",
    ),
    "unknown job": (("job: evaluate", "job: evalute"), '16: steps.sweep.job: there is no job "evalute"; did you mean'),
    "unknown engine": (
        ("job: evaluate", "job: evaluate\n    engine: vlm"),
        "17: steps.sweep.engine: \"vlm\": must be 'auto', 'transformers', 'vllm' or 'openai'; did you mean vllm?",
    ),
    "missing step": (("${tiny}", "${tyni}"), "17: steps.sweep.model: there is no step 'tyni'; did you mean 'tiny'?"),
    "negative budget": (("[4, 8,", "[4, -8,"), "19: steps.sweep.budgets[1]: -8 is not a number of tokens"),
    "budget of 0": (("[4, 8,", "[0, 8,"), "19: steps.sweep.budgets[0]: 0 is not a number of tokens"),
    "count of 0": (("[1, 2, 4]", "[0, 2]"), "20: steps.sweep.extensions.counts[0]: 0 is not a count of extensions"),
    "wrong kind of output": (
        ("model: ${tiny}", "model: ${letters}"),
        "15: steps.sweep: ${letters} is a letters step, which makes dataset; a model is needed there",
    ),
    "object": (("train: 96000", "train: !!python/name:os.system x"), "7: the tag !!python/name:os.system is not"),
    "a name that leaves the store": (
        ("  letters:", "  ../letters:"),
        "5: steps: '../letters' cannot be a step's name",
    ),
    "reference inside text": (
        ("data: ${letters}", "data: data/${letters}"),
        '12: steps.tiny.data: "data/${letters}": a reference is the whole value, ${step}',
    ),
    "reference where no output can stand": (
        ("strategy: fsdp", "template: ${letters}"),
        "steps.tiny.template: ",
    ),
    "store in one process": (
        ("name: scaling-sweep", "name: x\nstore: memory://runs"),
        "4: store: memory://runs lives in one process",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line(file: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in SWEEP
    found = complaints(file, SWEEP.replace(*change))
    assert any(message in line for line in found), found


def test_an_empty_file_is_refused(file: Path) -> None:
    assert complaints(file, "") == ["1: the file is empty"]


def test_a_missing_experiment_is_refused(file: Path) -> None:
    with pytest.raises(ExperimentError, match="cannot be read: No such file"):
        load(file)


def test_a_cycle_is_shown(file: Path) -> None:
    steps = "".join(
        f"  {name}:\n    job: evaluate\n    model: ${{{model}}}\n    tasks: [letters]\n" for name, model in ("ab", "ba")
    )
    assert "3: steps.a: is part of a cycle: a -> b -> a" in complaints(file, f"name: x\nsteps:\n{steps}")


def test_all_problems_are_reported_at_once_in_the_order_of_lines(file: Path) -> None:
    text = SWEEP.replace("train: 96000", "train: -1").replace("${tiny}", "${x}").replace("[1, 2, 4]", "[0]")
    found = complaints(file, text + "colour: red\n", "steps.sweep.budgets=[0]", "nonsense")
    assert [line.split(":")[0] for line in found] == sorted((line.split(":")[0] for line in found), key=int)
    for part in ("--set nonsense", "letters.train", "no step 'x'", "counts[0]", "budgets[0]", "colour"):
        assert any(part in line for line in found), (part, found)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps.sweep", "write it as --set"),
        ("=3", "write it as --set"),
        ("steps.sweep.budgets=[1", "not YAML"),
        ("name.x=1", '"scaling-sweep" and has no'),
        ("steps.sweep.budgets.9=4", "has no '9'"),
        ("steps.sweep.budgetz=[4]", "did you mean 'budgets'?"),
    ],
)
def test_a_bad_override_is_one_clear_line(file: Path, override: str, message: str) -> None:
    assert any(message in line for line in complaints(file, SWEEP, override))


def test_a_model_folder_without_config_or_tokenizer_is_refused(file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    change = ("model: ${tiny}", f"model: {model}")
    assert "is not a folder" in complaints(file, SWEEP.replace(*change))[0]
    model.mkdir()
    assert "has no config.json" in complaints(file, SWEEP.replace(*change))[0]
    (model / "config.json").write_text("{}")
    assert "has no tokenizer.json" in complaints(file, SWEEP.replace(*change))[0]


def test_a_task_without_items_is_refused(file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    text = SWEEP.replace('"${letters}"', f"{{name: mine, path: {empty}}}")
    assert "has no items" in complaints(file, text)[0]


WORDS = ["-1", "[]", "{}", "null", "${sweep}", "!!python/x", "1e999", "&a", "*a"]
MARKS = ["${", "}", "[", ": ", "- ", "\n", "\t", "'", '"', "<<: *a", "? "]


def mutated(rng: random.Random, text: str) -> bytes:
    """The text after one to four random edits: bytes, characters, lines or words deleted, inserted, moved, repeated."""
    for _ in range(rng.randint(1, 4)):
        at, other = sorted(rng.choices(range(len(text) + 1), k=2))
        lines = text.splitlines(keepends=True) or [""]
        match rng.randrange(7):
            case 0:
                text = text[:at] + text[at + rng.randint(1, 8) :]
            case 1:
                text = text[:at] + rng.choice(string.printable + "é\u2028\x00🙂") + text[at:]
            case 2:
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "".join(lines)
            case 3:
                rng.shuffle(lines)
                text = "".join(lines)
            case 4:
                text = text[:at] + text[other:] + text[at:other]
            case 5:
                word = rng.choice(re.findall(r"[\w$\[\]{}-]+", text) or ["x"])
                text = text.replace(
                    word, rng.choice(["-1", "[]", "{}", "null", "${sweep}", "!!python/x", "1e999", "&a", "*a"])
                )
            case 6:
                text = (
                    text[:at]
                    + rng.choice(["${", "}", "[", ": ", "- ", "\n", "\t", "'", '"', "<<: *a", "? "])
                    + text[at:]
                )
    return text.encode()


@pytest.mark.seconds
def test_ten_thousand_mutations_of_the_shipped_file_are_read_or_refused(file: Path) -> None:
    rng = random.Random(0)
    accepted = 0
    refused: list[ExperimentError] = []
    for _ in range(10_000):
        content = mutated(rng, SWEEP)
        if rng.random() < 0.05:
            content = bytes(rng.choices(range(256), k=3)) + content
        file.write_bytes(content)
        try:
            load(file)
            accepted += 1
        except ExperimentError as error:
            refused.append(error)
    assert all(error.complaints for error in refused)
    assert 100 < accepted < 9_900


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "orchestrator", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.seconds
@pytest.mark.parametrize("verb", ["run", "plan", "status", "report"])
def test_a_refused_file_exits_with_2_and_imports_nothing_heavy(file: Path, verb: str) -> None:
    file.write_text(SWEEP.replace("budgets:", "budget:"))
    result = run_command(verb, str(file))
    said = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert result.returncode == 2
    assert said == [f"{file}:19: steps.sweep.budget: is not a key here; did you mean 'budgets'?"]
    assert imported.isdisjoint({"ray", "torch", "vllm", "mlflow", "transformers", "numpy", "pandas"})
    assert "pydantic" in imported


def test_help_imports_nothing_heavy() -> None:
    result = run_command("--help")
    assert result.returncode == 0
    assert "ray" not in {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}


def test_a_chain_longer_than_pythons_stack_is_put_in_order(file: Path) -> None:
    length = 2000
    text = "name: chain\nsteps:\n"
    for number in reversed(range(length)):
        before = f"${{tiny{number - 1}}}"
        model = f"'{before}'" if number else "{random: qwen2, layers: 1, hidden_size: 64}"
        text += f"  tiny{number}: {{job: finetune, model: {model}, data: simplescaling/s1K}}\n"
    assert list(read(file, text).steps) == [f"tiny{number}" for number in range(length)]
