"""What the YAML reader accepts, what it makes of it, and where it says things stand."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.yaml_positions import YamlError, parse


def complaints(text: str) -> list[tuple[int, str]]:
    with pytest.raises(YamlError) as caught:
        parse(text)
    return caught.value.complaints


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("010", 10),
        ("-3", -3),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("0x10", "0x10"),
        ('"12"', "12"),
        ('[Wait, no, ""]', ["Wait", "no", ""]),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert parse(text).value == value
    assert type(parse(text).value) is type(value)


def test_infinity_and_nan_are_floats() -> None:
    assert parse("[.inf, -.inf]").value == [math.inf, -math.inf]
    assert math.isnan(parse(".nan").value)


def test_lines_are_those_of_keys_and_list_items() -> None:
    document = parse("a: 1\nb:\n  c:\n    - 5\n    - 6\n")
    assert [document.line(path) for path in (("a",), ("b",), ("b", "c"), ("b", "c", 0), ("b", "c", 1))] == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_a_path_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    assert parse("a: 1\nb:\n  c: 2\n").line(("b", "missing", "deeper")) == 2


def test_every_duplicate_key_is_reported_with_both_lines() -> None:
    assert complaints("a: 1\nb: 2\na: 3\nb: 4\n") == [
        (3, "duplicate key 'a': it stands in line 1 too"),
        (4, "duplicate key 'b': it stands in line 2 too"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system [true]",
        "!!python/name:os.system x",
        "!!binary aGk=",
        "!!set {a, b}",
        "!custom 3",
        "a: !!timestamp 2024-01-01",
    ],
)
def test_tags_that_construct_objects_are_refused(text: str) -> None:
    assert "is not allowed: only plain values" in complaints(text)[0][1]


def test_a_tab_is_named_as_such() -> None:
    assert complaints("a:\n\tb: 1\n") == [(2, "a tab where YAML wants spaces: indent with spaces")]


@pytest.mark.parametrize("text", ["", "\n# only a comment\n", "#!/usr/bin/env -S python -m orchestrator run\n"])
def test_an_empty_file_is_named_as_such(text: str) -> None:
    assert complaints(text) == [(1, "the file is empty")]


def test_aliases_cannot_grow_without_bound() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert "more than 100,000 values" in complaints(bomb)[0][1]


def test_a_value_that_contains_itself_is_refused() -> None:
    assert "contains itself" in complaints("a: &a [1, *a]")[0][1]


def test_nesting_without_end_is_refused() -> None:
    assert complaints("[" * 20_000)[0][1] == "values are nested too deeply"


class Quoting(yaml.SafeDumper):
    """Writes texts in quotes: PyYAML knows YAML 1.1, in which 08 is text and needs none."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_a_dumper_that_quotes_writes_is_read_back(value: object) -> None:
    assert parse(yaml.dump(value, Dumper=Quoting)).value == value


@pytest.mark.seconds
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    found: list[tuple[int, str]] = []
    try:
        parse(text)
    except YamlError as error:
        found = error.complaints
    assert all(line >= 1 and message for line, message in found)
