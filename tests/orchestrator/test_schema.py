"""The schema that editors are given: never against a file that runs, and against most that do not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from orchestrator.__main__ import main
from orchestrator.complaints import ExperimentError
from orchestrator.experiment import load
from orchestrator.schema import COMMENT, schema
from orchestrator.yaml_positions import YamlError, parse
from tests.conftest import ROOT
from tests.faults.test_experiment_fuzz import structure_changed, values_changed
from tests.orchestrator.test_experiment import BAD, SWEEP

SHIPPED = sorted((ROOT / "experiments").rglob("*.yaml"))
SEEN = ["renamed key", "unknown key", "unknown key in a mapping", "wrong type", "unknown job", "unknown engine"]
"""Of what is refused, that which no look at files or other fields is needed for."""


@pytest.fixture(scope="module")
def validator() -> Any:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def value(text: str) -> Any:
    return json.loads(json.dumps(parse(text).value))


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_experiment_validates_and_says_where_its_schema_is(shipped: Path, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(value(shipped.read_text()))] == []
    line = shipped.read_text().splitlines()[1]
    assert line.startswith(COMMENT)
    assert (shipped.parent / line.removeprefix(COMMENT)).resolve() == ROOT / "experiments" / "schema.json"


def test_setting_up_writes_the_schema_that_they_name() -> None:
    assert (ROOT / "Makefile").read_text().count("python -m orchestrator schema > experiments/schema.json") == 2
    result = CliRunner().invoke(main, ["schema"])
    assert json.loads(result.output) == json.loads(json.dumps(schema()))


@pytest.mark.parametrize("bad", SEEN)
def test_what_is_wrong_by_itself_is_marked(bad: str, validator: Any) -> None:
    (before, after), _ = BAD[bad]
    assert validator.is_valid(value(SWEEP))
    assert not validator.is_valid(value(SWEEP.replace(before, after)))


@pytest.mark.seconds
def test_no_file_that_runs_is_marked_and_most_that_do_not_are(
    validator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng, file = random.Random(0), tmp_path / "experiment.yaml"
    accepted = refused = marked = 0
    small = [path.read_text() for path in SHIPPED if path.stat().st_size < 1500]
    for number in range(60):
        content = (structure_changed, values_changed)[number % 2](rng, rng.choice(small))
        file.write_bytes(content)
        try:
            document = value(content.decode())
        except (YamlError, UnicodeDecodeError, ValueError):
            continue
        try:
            load(file)
        except ExperimentError:
            refused += 1
            marked += not validator.is_valid(document)
        else:
            accepted += 1
            assert validator.is_valid(document), content.decode()
    assert accepted > 1
    assert marked > refused / 2, f"{marked} of {refused}"


def test_every_field_says_what_it_is_where_its_config_does() -> None:
    evaluate = schema()["$defs"]["step.evaluate"]["properties"]
    assert evaluate["engine"]["enum"] == ["auto", "transformers", "vllm", "openai"]
    assert evaluate["samples"]["description"] == "traces per item"
    assert evaluate["job"] == {"const": "evaluate"}
