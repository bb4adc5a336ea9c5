"""A dataset's rows from Hugging Face's hub, at the commit it is pinned to.

The commit's files are fetched first, by name and hash, and read from there: ``datasets`` by itself takes whatever
version it has in its cache when the hub cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.evaluate.tasks.benchmarks import Benchmark
from jobs.evaluate.tasks.rows import SourceRow
from orchestrator.job.errors import StepError


class OutOfReach(StepError):
    """The hub cannot be asked from here, and nothing of the commit is in the cache."""


def hub_rows(name: str, benchmark: Benchmark) -> Iterator[SourceRow]:
    """The rows of the task called `name`. Raises :class:`StepError` saying what to do where they cannot be had."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from datasets.features.features import require_decoding

    folder = _fetched(name, benchmark)
    where = f"{benchmark.dataset}@{benchmark.revision[:8]}"
    try:
        rows = load_dataset(folder, benchmark.subset, split=benchmark.split)
    except (DatasetsError, OSError, ValueError) as error:
        raise StepError(f"task {name}: {where} cannot be read ({_first_line(error)}): {_instead(name)}") from error
    pictures = [column for column, feature in rows.features.items() if require_decoding(feature)]
    for number, row in enumerate(rows.remove_columns(pictures), 1):
        yield f"{where}:{number}", row


def _fetched(name: str, benchmark: Benchmark) -> str:
    """The folder with the files of the benchmark's commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{benchmark.dataset}@{benchmark.revision[:8]}"
    try:
        return str(
            snapshot_download(
                benchmark.dataset,
                repo_type="dataset",
                revision=benchmark.revision,
                allow_patterns=None if benchmark.files is None else list(benchmark.files),
            )
        )
    except (GatedRepoError, RepositoryNotFoundError) as error:
        if benchmark.gated:
            raise StepError(
                f"task {name}: {benchmark.dataset} is gated: agree to its terms at {benchmark.page}, then log in with "
                f"`hf auth login` or set HF_TOKEN where the step runs, or {_instead(name)}"
            ) from error
        raise StepError(f"task {name}: {benchmark.dataset} is not on the hub any more: {_instead(name)}") from error
    except RevisionNotFoundError as error:
        raise StepError(
            f"task {name}: {where} is gone: {benchmark.page} has no commit {benchmark.revision} any more; "
            f"{_instead(name)}"
        ) from error
    except LocalEntryNotFoundError as error:
        raise OutOfReach(
            f"task {name}: {where} is not in the cache, and the hub cannot be reached: connect, or {_instead(name)}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise StepError(
            f"task {name}: {where} cannot be downloaded ({_first_line(error)}): {_instead(name)}"
        ) from error


def _instead(name: str) -> str:
    return f"give a file of it with {{name: {name}, path: {name}.jsonl}}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
