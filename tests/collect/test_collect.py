"""What becomes of every row of every source."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from jobs.collect.config import CollectConfig
from jobs.fates import Funnel
from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset
from tests.collect.questions import asked, collect, read, source

SEA = "A ship sails from the harbour at noon and travels north for three hours at a steady 12 knots. How far is it?"
HILL = "A cart rolls down a hill of height 40 metres and up another one. What is its speed at the very top of it?"
TEST = "Two painters need six days for a wall, and one of them alone needs ten. How long does the other one take alone?"


def made(folder: Path, fields: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Funnel]:
    output, _ = collect(folder, fields)
    assert list(Dataset.faults(output)) == []
    funnel = Funnel.of(json.loads((output / "funnel.json").read_text()))
    return read(output / "test.jsonl"), read(output / "dropped.jsonl"), funnel


def test_a_question_that_two_sources_have_is_kept_once_and_says_who_else_has_it(tmp_path: Path) -> None:
    one = source(tmp_path, "b", [*asked([SEA, HILL])])
    other = source(
        tmp_path, "a", [{"id": "x", "question": f"  {SEA.upper()}", "answer": "36", "level": 4}], keep=["level"]
    )
    kept, dropped, funnel = made(tmp_path, {"sources": [one, other]})
    assert [(row["source"], row["row"], row["also_in"]) for row in kept] == [("a", "x", ["b"]), ("b", "q1", [])]
    assert kept[0]["level"] == 4
    assert [(row["source"], row["stage"], row["duplicate_of"]) for row in dropped] == [
        ("b", "duplicates", kept[0]["id"])
    ]
    assert funnel.record()["out"] == {"a": 1, "b": 1}


def test_the_row_that_stays_has_a_reference_answer_where_any_has(tmp_path: Path) -> None:
    without = source(tmp_path, "a", [{"question": SEA}], answered=False)
    kept, _, _ = made(tmp_path, {"sources": [without, source(tmp_path, "b", asked([SEA], "36"))]})
    assert [(row["source"], row["answer"]) for row in kept] == [("b", "36")]


def test_near_duplicates_are_one_question_and_other_numbers_make_another(tmp_path: Path) -> None:
    long = " ".join([SEA, HILL, TEST])
    rows = asked([long, long.replace("harbour", "port"), long.replace("40", "41"), TEST])
    kept, dropped, _ = made(tmp_path, {"sources": [source(tmp_path, "a", rows)]})
    assert [row["row"] for row in kept] == ["q0", "q2", "q3"]
    assert [(row["row"], row["stage"]) for row in dropped] == [("q1", "near duplicates")]
    assert "of the shingles of" in dropped[0]["reason"]
    kept, _, _ = made(tmp_path, {"sources": [source(tmp_path, "a", rows)], "near_duplicates": None})
    assert len(kept) == 4


def test_a_contaminated_question_shows_the_text_and_the_item_that_has_it_too(tmp_path: Path) -> None:
    test = source(tmp_path, "exam", asked([TEST]))
    inside = f"Consider this. {TEST.lower()[:70]} and something else"
    edited = TEST.replace("wall", "fence")
    fields = {"sources": [source(tmp_path, "a", asked([SEA, inside, TEST, edited]))], "decontaminate": [test]}
    kept, dropped, funnel = made(tmp_path, fields)
    assert [row["row"] for row in kept] == ["q0"]
    assert [row["stage"] for row in dropped] == ["contaminated"] * 3
    assert [row["against"]["item"] for row in dropped] == ["q0"] * 3
    assert dropped[0]["against"]["shared"].startswith("two painters need six days for a wall and one of them")
    assert dropped[0]["against"]["words"] == len(dropped[0]["against"]["shared"].split())
    assert funnel.stages[1].causes() == Counter({"exam, 8 words in a row": 2, "exam, the same question": 1})


def test_a_question_too_short_for_an_n_gram_is_found_all_the_same(tmp_path: Path) -> None:
    test = source(tmp_path, "exam", asked([r"Compute $\dbinom{5}{3}$."]))
    rows = asked([r"compute \binom 53", "Compute 5 - 3.", "Compute 5 + 3."])
    kept, _, _ = made(tmp_path, {"sources": [source(tmp_path, "a", rows)], "decontaminate": [test]})
    assert [row["row"] for row in kept] == ["q1", "q2"]


def test_an_n_of_13_keeps_what_shares_8_words(tmp_path: Path) -> None:
    test = source(tmp_path, "exam", asked([TEST]))
    shares = "Nobody knows how long does the other one take alone when it rains on all the roofs in the town"
    sources = [source(tmp_path, "a", asked([shares]))]
    with pytest.raises(StepError, match="no question is left: contaminated took 1 of 1"):
        made(tmp_path, {"sources": sources, "decontaminate": {"against": [test], "near": None}})
    kept, _, _ = made(tmp_path, {"sources": sources, "decontaminate": {"against": [test], "ngram": 13}})
    assert len(kept) == 1


WORDS = ["red", "green", "blue", "one", "two", "three", "sun", "moon"]
questions = st.lists(st.lists(st.sampled_from(WORDS), min_size=0, max_size=12).map(" ".join), min_size=1, max_size=8)


@settings(max_examples=25)
@given(st.lists(questions, min_size=2, max_size=3), st.integers(1, 3), st.randoms(use_true_random=False))
def test_every_row_has_a_fate_and_no_order_of_sources_changes_one(
    tmp_path_factory: pytest.TempPathFactory, several: list[list[str]], quota: int, rng: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("fates")
    sources = [source(folder, f"s{number}", asked(own)) for number, own in enumerate(several)]
    sources[0]["quota"] = quota
    # A question that nothing drops, so that one is always left.
    sources.append(source(folder, "own", asked([SEA])))
    test = source(folder, "exam", asked(["red green blue one two three sun moon red green"]))
    outputs = []
    for order in (sources, rng.sample(sources, len(sources))):
        fields = {"sources": order, "decontaminate": {"against": [test]}, "seed": 3}
        output, _ = collect(folder, fields, size=rng.randint(1, 5))
        outputs.append({name: (output / name).read_text() for name in ("test.jsonl", "dropped.jsonl", "funnel.json")})
    assert outputs[0] == outputs[1]
    funnel = Funnel.of(json.loads(outputs[0]["funnel.json"]))
    kept = [json.loads(line) for line in outputs[0]["test.jsonl"].splitlines()]
    dropped = [json.loads(line) for line in outputs[0]["dropped.jsonl"].splitlines()]
    rows = Counter((row["source"], row["row"]) for row in [*kept, *dropped])
    assert rows == Counter(
        {
            (each["name"], f"q{place}"): 1
            for each, own in zip(sources, [*several, [SEA]], strict=True)
            for place in range(len(own))
        }
    )
    assert Counter(row["source"] for row in kept) == Counter({name: out for name, out in funnel.out.items() if out})
    assert len({row["id"] for row in kept}) == len(kept)
    assert all(row["reason"] and row["stage"] for row in dropped)
    went_on = funnel.came
    for stage in funnel.stages:
        assert stage.came == went_on
        assert all(
            stage.came[name] == stage.out[name] + sum(stage.dropped.get(name, {}).values()) for name in stage.came
        )
        went_on = stage.out
    assert sum(row["source"] == "s0" for row in kept) <= quota


def test_a_quota_is_drawn_by_its_seed(tmp_path: Path) -> None:
    rows = asked([f"How many sheep has farmer {name}?" for name in "abcdefghijklmnop"])
    drawn = set()
    for seed in (0, 0, 1):
        kept, dropped, _ = made(tmp_path, {"sources": [source(tmp_path, "a", rows, quota=5)], "seed": seed})
        assert (len(kept), len(dropped)) == (5, 11)
        drawn.add(tuple(row["row"] for row in kept))
    assert len(drawn) == 2


def test_the_published_procedure_hangs_on_the_order_of_sources_and_ours_does_not(tmp_path: Path) -> None:
    first = source(tmp_path, "a", asked([SEA]))
    second = source(tmp_path, "b", asked([f"Listen: {SEA[:60]} or so they say in the pubs around here."]))
    test = source(tmp_path, "exam", asked([TEST]))
    found = []
    for by, order in itertools.product(("s1", "words"), ([first, second], [second, first])):
        kept, dropped, _ = made(tmp_path, {"sources": order, "decontaminate": {"against": [test], "by": by}})
        found.append(sorted(row["source"] for row in kept))
        if by == "s1":
            assert dropped[0]["stage"] == "contaminated"
            assert dropped[0]["against"]["shared"] in SEA.lower()
    assert found == [["a"], ["b"], ["a", "b"], ["a", "b"]]


def test_rows_that_are_no_questions_are_dropped_and_say_where_they_stand(tmp_path: Path) -> None:
    rows = [*asked([SEA]), {"id": "e", "question": " ", "answer": "1"}, {"id": "n", "question": HILL, "answer": None}]
    rows += [{"id": "w", "question": TEST, "answer": "about seven"}, {"id": "d", "question": "$ $", "answer": "1"}]
    kept, dropped, funnel = made(tmp_path, {"sources": [source(tmp_path, "a", rows, type="integer")]})
    assert [row["row"] for row in kept] == ["q0"]
    assert [row["row"] for row in dropped] == ["e", "n", "w", "d"]
    assert "a.jsonl:2: question is ' '" in dropped[0]["reason"]
    assert "answer 'about seven' is not an integer" in dropped[2]["reason"]
    assert funnel.stages[0].causes() == Counter({"no question": 4})


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        ([{"id": "1", "problem": SEA, "answer": "1"}], {}, "has no column question; there are id, problem, answer"),
        ([{"id": "1", "question": SEA}], {}, "where there are no reference answers, set answered: false"),
        (asked([SEA]), {"keep": ["level"]}, "has no column level"),
        ([], {}, "has no rows"),
    ],
)
def test_a_source_without_a_column_is_a_line_before_anything_runs(
    tmp_path: Path, rows: list[dict[str, str]], more: dict[str, Any], said: str
) -> None:
    config = CollectConfig.model_validate_json(json.dumps({"sources": [source(tmp_path, "a", rows, **more)]}))
    (problem,) = config.problems()
    assert problem.field == ("sources", 0)
    assert said in problem.message
    with pytest.raises(StepError, match="has no"):
        collect(tmp_path, {"sources": [source(tmp_path, "a", rows, **more)]})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sources": []}, "at least 1 item"),
        ({"sources": ["letters", "letters"]}, "'letters' is given twice"),
        ({"sources": ["nowhere"]}, "unknown task 'nowhere'"),
        ({"sources": ["letters"], "decontaminate": ["letters", "letters"]}, "'letters' is given twice"),
        ({"sources": ["letters"], "decontaminate": {"against": ["letters"], "by": "s1", "near": 0.8}}, "n-grams alone"),
        ({"sources": ["letters"], "decontaminate": {"against": ["letters"], "ngram": 2}}, "greater than or equal to 3"),
        ({"sources": ["letters"], "near_duplicates": 0.1}, "greater than 0.3"),
        ({"sources": [{"name": "letters", "keep": ["id"]}]}, "is a column that collect writes itself"),
        ({"sources": [{"name": "letters", "quota": 0}]}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CollectConfig.model_validate_json(json.dumps(fields))
