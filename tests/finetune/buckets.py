"""A bucket on a server that speaks S3's protocol, on a free port of this machine."""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import boto3
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[dict[str, str]]:
    """A server while the block runs: the environment that leads to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    finally:
        S3FileSystem.clear_instance_cache()  # They hold connections, and other tests have other servers.
        server.stop()


def new_bucket(environment: dict[str, str]) -> str:
    """The name of an empty bucket on the server that `environment` leads to."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name


class Door:
    """A way to a server that can be shut: nobody answers then, and what was connected is cut off."""

    def __init__(self, environment: dict[str, str]):
        """Shut at first. `environment` leads to the server."""
        host, _, port = environment["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._listening: socket.socket | None = None
        self._connected: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            self._port = reserved.getsockname()[1]
        self.environment = {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}"}

    def open(self) -> None:
        """Lets everyone through."""
        self._listening = socket.create_server(("127.0.0.1", self._port))
        self._start(self._accept, self._listening)

    def shut(self) -> None:
        """Refuses everyone."""
        assert self._listening is not None
        for each in (self._listening, *self._connected):
            with suppress(OSError):  # it has ended by itself
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        while self._threads:
            self._threads.pop().join()
        self._connected = []

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):  # the door was shut
            while True:
                near = listening.accept()[0]
                far = socket.create_connection(self._target)
                self._connected += [near, far]
                self._start(self._pass, near, far)
                self._start(self._pass, far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)
