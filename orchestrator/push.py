"""Puts what a finished step made on Hugging Face's hub, where others can take it: a dataset with its card, or a model.

It is private unless asked otherwise: questions of a gated benchmark, or a server's answers, are not everyone's to
publish. The token is the environment's (``HF_TOKEN``, or what ``hf auth login`` left); it is never an argument.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Dataset, Model, Output

_KINDS: dict[type[Output], str] = {Dataset: "dataset", Model: "model"}


def push(made: type[Output], output: Path, name: str, said: str, public: bool = False) -> str:
    """Uploads the folder `output` as the repository `name`, in one commit whose message is `said`. Returns its address.

    Files that are there already are not sent again. Raises StepError where that cannot be, in one line.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repo_type = next((repo for kind, repo in _KINDS.items() if issubclass(made, kind)), None)
    if repo_type is None:
        raise StepError(f"push: a {made.KIND} has no place on the hub: give a step that makes a dataset or a model")
    hub = HfApi()
    try:
        address = hub.create_repo(
            name, repo_type=repo_type, visibility="public" if public else "private", exist_ok=True
        )
        hub.upload_folder(repo_id=name, repo_type=repo_type, folder_path=output, commit_message=said)
    except HFValidationError as error:
        raise StepError(f"push: {name!r} is not a name on the hub: give owner/name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise StepError(
                f"push: the hub does not let this user write {name} ({status}): log in with `hf auth login`, or set "
                "HF_TOKEN to a token that may write"
            ) from error
        raise StepError(f"push: the hub refused {name} with {status}: {_first_line(error)}") from error
    except (httpx2.TransportError, OSError) as error:
        raise StepError(f"push: the hub cannot be reached: {_first_line(error)}") from error
    return str(address)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
