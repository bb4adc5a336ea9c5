"""Serves the page to this machine's user: on the loopback interface, to whoever has the token of its address.

Other users of the machine reach the loopback interface too, and so does any page in a browser: so the token is asked
for (compared in constant time), and a request must name this address as its host, or another site's name could be made
to mean this machine (DNS rebinding).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LOOPBACK = "127.0.0.1"
EVERY_SECONDS = 2.0
"""Between looks at the store."""


@contextmanager
def served(first: str, page: Callable[[], str], port: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields the page's address, and what makes it anew, to be called as long as the block lasts.

    `first` is the page until then. `port` 0 takes a free one. Raises OSError where the port is taken.
    """
    token = secrets.token_urlsafe(24)
    content = [first]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            given = parse_qs(where.query).get("token", [""])[0]
            if self.headers.get("Host") != f"{LOOPBACK}:{server.server_port}":
                self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
            elif where.path == "/favicon.ico":  # which browsers ask for, without the token
                self._answer(HTTPStatus.NO_CONTENT, b"")
            elif not secrets.compare_digest(given.encode(), token.encode()):
                self._refuse(HTTPStatus.FORBIDDEN)
            elif where.path != "/":
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._answer(HTTPStatus.OK, content[0].encode())

        def _refuse(self, status: HTTPStatus) -> None:
            self._answer(status, f"{status.value} {status.phrase}\n".encode(), "text/plain")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/html") -> None:
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            for name, value in (
                ("Cache-Control", "no-store"),
                ("Referrer-Policy", "no-referrer"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
            ):
                self.send_header(name, value)
            with suppress(ConnectionError):  # a browser may close it at any time
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests have the token in them."""

    def refresh() -> None:
        content[0] = page()

    server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="live page", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/?token={token}", refresh
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def keep_up(refresh: Callable[[], None]) -> None:
    """Makes the page anew until it is interrupted."""
    while True:
        refresh()
        time.sleep(EVERY_SECONDS)
