"""A folder and a bucket give the same answers, whatever is done to files, in whatever order, by how many at once."""

from __future__ import annotations

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.store.storage import storage_of, storage_path
from tests.conftest import ROOT
from tests.finetune.buckets import new_bucket

if TYPE_CHECKING:
    from orchestrator.store.storage import StoragePath

NAMES = st.sampled_from(["a.json", "b.json", "sub/a.json", "sub/deep/c.txt", "other/a.json"])
CONTENTS = st.binary(max_size=9)
OPERATIONS = st.one_of(
    st.tuples(st.just("write"), NAMES, CONTENTS),
    st.tuples(st.just("write bit by bit"), NAMES, CONTENTS),
    st.tuples(st.just("write in vain"), NAMES, CONTENTS),
    st.tuples(st.just("write once"), NAMES, CONTENTS),
    st.tuples(st.just("put"), NAMES, CONTENTS),
    st.tuples(st.just("read"), NAMES, st.none()),
    st.tuples(st.just("read a part"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("digest"), NAMES, st.none()),
    st.tuples(st.just("fetch"), NAMES, st.none()),
    st.tuples(st.just("remove"), NAMES, st.none()),
    st.tuples(st.just("set aside"), NAMES, st.none()),
    st.tuples(st.just("remove all"), st.sampled_from(["sub", "sub/deep", "nothing"]), st.none()),
)


def perform(root: StoragePath, operation: tuple[str, str, object], here: Path) -> object:
    """What the caller of one operation gets to see."""
    what, name, value = operation
    storage = storage_of(root / name)
    content = value if isinstance(value, bytes) else b""
    known = None if what == "remove all" else storage.read_bytes()
    match what:
        case "write":
            storage.write_bytes(content)
        case "write bit by bit":
            with storage.writing() as file:
                file.write(content[:4])
                file.write(content[4:])
        case "write in vain":
            with suppress(KeyError), storage.writing() as file:
                file.write(content)
                raise KeyError
        case "write once":
            return storage.write_once(content)
        case "put":
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(content)
            storage_of(root).put(here, [name])
        case "read":
            return known
        case "read a part" if known:
            assert isinstance(value, int)
            part = storage.read_from(min(value, len(known) - 1), 4)
            with storage.open() as opened:
                opened.seek(min(value, len(known) - 1))
                assert opened.read(4) == part
            return part
        case "digest" if known is not None:
            return storage.digest()
        case "fetch" if known is not None:
            storage_of(root).fetch([name], here / "fetched")
            return (here / "fetched" / name).read_bytes()
        case "remove":
            storage.remove()
        case "set aside":
            return storage.set_aside(".aside")
        case "remove all":
            storage.remove_tree()
    return None


def state(root: StoragePath) -> object:
    files = storage_of(root).files()
    contents = [(name, file.size, storage_of(root / name).read_bytes()) for name, file in files.items()]
    return contents, [folder.name for folder in storage_of(root).folders() if storage_of(folder).files()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=8))
def test_the_same_operations_give_the_same_answers(
    server: dict[str, str], reached: None, tmp_path: Path, operations: list[tuple[str, str, object]]
) -> None:
    case = uuid.uuid4().hex
    local, bucket = tmp_path / case, storage_path(f"s3://{new_bucket(server)}/{case}")
    for operation in operations:
        answers = [perform(root, operation, tmp_path / f"{case}-here") for root in (local, bucket)]
        assert answers[0] == answers[1], operation
        assert state(local) == state(bucket), operation


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, server: dict[str, str], reached: None, tmp_path: Path) -> StoragePath:
    return tmp_path / "runs" if request.param == "folder" else storage_path(f"s3://{new_bucket(server)}/runs")


def test_of_many_who_create_one_file_one_succeeds(root: StoragePath) -> None:
    with ThreadPoolExecutor(16) as threads:
        won = list(threads.map(storage_of(root / "lease").write_once, [b"%d" % number for number in range(16)]))
    assert sum(won) == 1
    assert storage_of(root / "lease").read_bytes() == b"%d" % won.index(True)


def test_what_a_storage_can_be_asked_before_anything_is_there(root: StoragePath) -> None:
    storage = storage_of(root)
    assert (storage.files(), list(storage.folders()), storage.read_bytes()) == ({}, [], None)
    assert storage.set_aside(".aside") is None
    storage.remove()
    storage.remove_tree()
    storage.make_folder()
    storage.check_reachable()
    storage.check_writable()
    assert storage.files() == {}


def test_one_place_tells_a_folder_from_a_bucket() -> None:
    """Elsewhere each storage says of itself what differs."""
    telling = [
        path.relative_to(ROOT).as_posix()
        for package in ("orchestrator", "jobs", "cluster")
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"isinstance\([^()]*\bPath\)", path.read_text())
    ]
    assert telling == ["orchestrator/store/storage.py"]
