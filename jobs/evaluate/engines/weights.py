"""The weights of a model of the hub, fetched before an engine starts: once per machine, however many replicas it has.

An engine that downloads counts that as its own start, which has a limit, and shows nothing meanwhile. So a replica has
the files first, under a lock of the machine, and says in bytes how far it is. The engine then gets a folder.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.evaluate.engines.protocol import EngineError

LOOK_SECONDS = 1.0
"""Between looks at how many bytes are there."""

READY_SECONDS = 600
"""What an engine has to start, whatever the size of its model: to compile and to capture graphs."""
LOAD_BYTES_PER_SECOND = 50e6
"""At which weights are read at least: that of a network disk that many read from at once."""

FORMATS = (".safetensors", ".bin")
"""Of weights; a model that has them in several is read from the first."""
SMALL = (".json", ".txt", ".model", ".jinja", ".py", ".tiktoken")
"""What else a model consists of: its configuration, its tokenizer, and code."""


def untold(there: int, of: int) -> None:
    """For whoever does not want to know."""


def fetch(name: str, revision: str, tell: Callable[[int, int], None] = untold) -> Path:
    """The folder of the model `name` at a commit on this machine, with its weights; `tell` is told how many of its
    bytes are there, and of how many.

    Without the hub it is what the machine has. Raises EngineError where that is nothing, or fetching it fails.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # logs are read by people
    with _alone(name):
        try:
            files = wanted(snapshot_download(name, revision=revision, dry_run=True))
            with _told(files, tell):
                patterns = [each.filename for each in files]
                return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
        except (DryRunError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            if (there := _cached(name) / "snapshots" / revision).is_dir():
                print(f"the hub cannot be reached: {name} is taken as it is in {there}", flush=True)
                return there
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise EngineError(f"the weights of {name} cannot be fetched: {said}") from error


def wanted(files: Sequence[Any]) -> list[Any]:
    """Those of a repository's files that an engine reads: weights in one format, and what is small; no subfolders."""
    top = [each for each in files if "/" not in each.filename]
    kept = next((kind for kind in FORMATS if any(each.filename.endswith(kind) for each in top)), FORMATS[0])
    return [each for each in top if each.filename.endswith((kept, *SMALL))]


def ready_seconds(folder: str) -> int:
    """What an engine may take to start with the model of a folder, its weights already there."""
    size = sum(file.stat().st_size for file in Path(folder).glob("*") if file.name.endswith(FORMATS))
    return READY_SECONDS + round(size / LOAD_BYTES_PER_SECOND)


def _cached(name: str) -> Path:
    """Where the hub's client keeps a model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Waits until no other process of this machine fetches that model."""
    folder = _cached(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _told(files: Sequence[Any], tell: Callable[[int, int], None]) -> Iterator[None]:
    """Tells every second how much of `files` is there, and at the end once more."""
    whole = sum(each.file_size or 0 for each in files)
    cached = sum(each.file_size or 0 for each in files if not each.will_download)
    blobs = Path(files[0].local_path).parents[2] / "blobs"
    before = _bytes(blobs)
    ended = threading.Event()

    def look() -> None:
        while True:
            tell(min(whole, cached + max(0, _bytes(blobs) - before)), whole)
            if ended.wait(LOOK_SECONDS):
                return

    thread = threading.Thread(target=look, name="weights", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell(min(whole, cached + max(0, _bytes(blobs) - before)), whole)


def _bytes(folder: Path) -> int:
    """Of all files, those included that are being written."""
    total = 0
    for file in folder.glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # renamed, as the last of it came
            continue
    return total
