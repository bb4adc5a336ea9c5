"""The JSON schema of an experiment file, for editors: what completes keys and marks errors while one types.

Generated from the configs that files are checked against, so it is never behind them. It knows less than they do: what
depends on several fields, or on files, `plan` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.experiment import TopLevel
from orchestrator.registry import JOBS
from orchestrator.store.step_folders import NAME

DIALECT = "https://json-schema.org/draft/2020-12/schema"
COMMENT = "# yaml-language-server: $schema="
"""Before the schema's path or address, as editors look for it in a file."""


class _Schema(GenerateJsonSchema):
    """Values that functions of ours read are whatever those take: anything, or, where they only complete what a model
    says, a shorter way to write it."""

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        return {}

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return {"anyOf": [_without_required(super().function_before_schema(schema)), {"not": {"type": "object"}}]}


def _without_required(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {name: value for name, value in schema.items() if name != "required"}


def schema() -> dict[str, Any]:
    """The schema, with every kind of step that is installed."""
    kinds = {kind: JOBS[kind].config for kind in JOBS}
    configs: dict[str, Any] = {"": TopLevel, **kinds}
    adapters: list[tuple[Any, Any, TypeAdapter[Any]]] = [
        (name, "validation", TypeAdapter(config)) for name, config in configs.items()
    ]
    by_name, shared = TypeAdapter.json_schemas(adapters, schema_generator=_Schema, by_alias=True)
    definitions = _tidied(shared["$defs"])
    steps = {kind: _step(kind, definitions.pop(_last(by_name[kind, "validation"]))) for kind in kinds}
    top = definitions.pop(_last(by_name["", "validation"]))
    top["properties"]["steps"] = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^(?:{NAME.pattern})$"},
        "additionalProperties": {"$ref": "#/$defs/step"},
    }
    definitions["step"] = {
        "type": "object",
        "required": ["job"],
        "properties": {"job": {"enum": list(kinds), "description": "what the step does"}},
        "allOf": [
            {
                "if": {"properties": {"job": {"const": kind}}, "required": ["job"]},
                "then": {"$ref": f"#/$defs/step.{kind}"},
            }
            for kind in kinds
        ],
    }
    definitions |= {f"step.{kind}": step for kind, step in steps.items()}
    return {"$schema": DIALECT, "title": "experiment", **top, "$defs": dict(sorted(definitions.items()))}


def _step(kind: str, config: Any) -> Any:
    """The schema of a step, with the key that says which kind it is."""
    if "anyOf" in config:
        first, *others = config["anyOf"]
        return {**config, "anyOf": [_step(kind, first), *others]}
    return {**config, "properties": {"job": {"const": kind}, **config.get("properties", {})}}


def _tidied(node: Any) -> Any:
    """What pydantic says of a model whose values may be written shorter belongs to the long form alone; and of a union,
    several alternatives may fit."""
    if isinstance(node, list):
        return [_tidied(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {name: _tidied(value) for name, value in node.items() if name not in ("oneOf", "discriminator")} | (
        {"anyOf": _tidied(node["oneOf"])} if "oneOf" in node else {}
    )
    if "anyOf" in node and "additionalProperties" in node:
        first, *others = node["anyOf"]
        node["anyOf"] = [{**first, "additionalProperties": node.pop("additionalProperties")}, *others]
    return node


def _last(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
