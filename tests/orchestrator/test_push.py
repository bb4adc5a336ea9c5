"""Pushing to a hub that is this test's own: as much of its protocol as creating a repository and committing takes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from orchestrator.job.errors import StepError
from orchestrator.job.outputs import Curves, Dataset, Model
from orchestrator.push import push


class Hub(BaseHTTPRequestHandler):
    """Takes small files in commits, as the hub does."""

    repositories: dict[str, dict[str, Any]]
    tokens: list[str | None]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization")
        type(self).tokens.append(token)
        if token != "Bearer hf_canary":
            self.answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            owner = asked.get("organization") or "me"
            name = asked["name"] if "/" in asked["name"] else f"{owner}/{asked['name']}"
            self.repositories.setdefault(name, {"asked": asked, "files": {}, "messages": []})
            self.answer(200, {"url": f"{constants.ENDPOINT}/datasets/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for each in json.loads(body)["files"]
            ]
            self.answer(200, {"files": files})
        elif "/commit/" in self.path:
            repository = next(each for name, each in self.repositories.items() if f"/{name}/" in self.path)
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    repository["messages"].append(line["value"]["summary"])
                elif line["key"] == "file":
                    repository["files"][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(200, {"commitUrl": f"{constants.ENDPOINT}/me/x/commit/0", "commitOid": "0" * 40})
        else:
            self.answer(404, {"error": f"no {self.path}"})

    def do_GET(self) -> None:
        self.answer(404, {"error": "nothing here"})

    def answer(self, status: int, said: dict[str, Any]) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def hub(monkeypatch: pytest.MonkeyPatch, token: str | None = "hf_canary") -> Iterator[type[Hub]]:
    handler = type("OwnHub", (Hub,), {"repositories": {}, "tokens": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    try:
        yield handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"question": "q", "trace": "t", "answer": "a"}\n')
    (folder / "README.md").write_text("# s1k\n")
    return folder


def test_a_dataset_is_one_commit_in_a_private_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = made(tmp_path / "output")
    with hub(monkeypatch) as server:
        address = push(Dataset, output, "me/s1k", "From s1k-0123")
        (repository,) = server.repositories.values()
        assert (repository["asked"]["type"], repository["asked"]["visibility"]) == ("dataset", "private")
        assert repository["messages"] == ["From s1k-0123"]
        assert repository["files"] == {file.name: file.read_bytes() for file in output.iterdir()}
        assert address.endswith("/datasets/me/s1k")
        push(Dataset, output, "me/open", "again", public=True)
        assert server.repositories["me/open"]["asked"]["visibility"] == "public"


def test_what_cannot_be_pushed_is_a_line_without_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = made(tmp_path / "output")
    with pytest.raises(StepError, match="a curves has no place on the hub"):
        push(Curves, output, "me/curves", "x")
    with hub(monkeypatch, "hf_other"):
        with pytest.raises(StepError, match=r"does not let this user write me/s1k \(401\): log in") as caught:
            push(Dataset, output, "me/s1k", "x")
        assert "hf_other" not in str(caught.value)
        with pytest.raises(StepError, match="'me/a/b' is not a name on the hub"):
            push(Model, output, "me/a/b", "x")
    with hub(monkeypatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(StepError, match="the hub cannot be reached"):
            push(Dataset, output, "me/s1k", "x")
