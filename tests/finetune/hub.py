"""A hub with one dataset, ``owner/traces`` at the revision ``v1``, that answers what clients ask of the real one.

``HF_ENDPOINT`` points Hugging Face's clients at it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "1f2e" + "0" * 36
_FILE = "data/train-00000-of-00001.parquet"
_API, _FILES = "/api/datasets/owner/traces", "/datasets/owner/traces/resolve"


@contextmanager
def hub(parquet: bytes) -> Iterator[str]:
    """Serves the dataset with `parquet` as its only file. The address."""
    blob = {"type": "file", "oid": "b" * 40, "size": len(parquet), "path": _FILE}
    folder = {"type": "directory", "oid": "a" * 40, "size": 0, "path": "data"}
    answers: dict[str, object] = {f"{_API}/tree/{COMMIT}": [folder], f"{_API}/tree/{COMMIT}/data": [blob]}
    for revision in ("v1", COMMIT):
        answers[f"{_API}/revision/{revision}"] = {
            "id": "owner/traces",
            "sha": COMMIT,
            "siblings": [{"rfilename": _FILE}],
        }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == f"{_FILES}/{COMMIT}/{_FILE}":
                self._answer(200, parquet, {"ETag": f'"{blob["oid"]}"'})
            elif path in answers:
                self._answer(200, json.dumps(answers[path]).encode(), {})
            else:
                known = "/v1" in path or COMMIT in path
                self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound" if known else "RevisionNotFound"})

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
