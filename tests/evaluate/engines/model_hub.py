"""A hub with one model, ``owner/model``, that sends its weights slowly and counts how often they are asked for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "1f2e" + "0" * 36
NAME = "owner/model"


@dataclass
class Hub:
    """What it serves, and what was sent."""

    address: str
    sent: Counter[str] = field(default_factory=Counter)


@contextmanager
def hub(files: Mapping[str, bytes], seconds: float) -> Iterator[Hub]:
    """Serves `files`; one of a megabyte takes so long."""
    tree = [
        {"type": "file", "oid": sha256(content).hexdigest()[:40], "size": len(content), "path": name}
        for name, content in files.items()
    ]
    about = {"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.removeprefix(f"/{NAME}/resolve/{COMMIT}/")
            if name in files:
                oid = sha256(files[name]).hexdigest()[:40]
                self._answer(200, files[name], {"ETag": f'"{oid}"'}, name)
            elif path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/{COMMIT}"):
                self._answer(200, json.dumps(about).encode(), {})
            elif path.startswith(f"/api/models/{NAME}/tree/"):
                self._answer(200, json.dumps(tree).encode(), {})
            else:
                self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes, headers: dict[str, str], name: str = "") -> None:
            self.send_response(status)
            for key, value in (headers | {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "GET":
                return
            found.sent[name] += bool(name)
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                time.sleep(seconds / 16 if len(body) > (1 << 16) else 0)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
