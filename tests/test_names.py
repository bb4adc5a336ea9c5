"""A public class or type has one name, and a name one meaning, across all of the product's packages."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def public_types(tree: ast.Module) -> Iterator[str]:
    """The classes and type aliases of a module's top level, which others may import."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.If):
            continue
        for each in node.body:
            match each:
                case ast.ClassDef(name=name):
                    pass
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if not _type_variable(value):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                    pass
                case _:
                    continue
            if name[0].isupper() and not name.isupper() and "_" not in name:
                yield name


def _type_variable(value: ast.expr) -> bool:
    return (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("TypeVar", "ParamSpec")
    )


def test_no_two_public_types_share_a_name() -> None:
    homes = defaultdict(list)
    for package in ("cluster", "jobs", "orchestrator"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in public_types(ast.parse(path.read_text())):
                homes[name].append(str(path.relative_to(ROOT)))
    assert {"Store", "StepConfig", "Policy", "EngineName"} <= homes.keys()
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
