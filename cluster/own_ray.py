"""The Ray of one run: on the loopback interface alone, and for whoever has the run's own token.

Ray's servers execute code for whoever reaches them. By default they listen on an address that other machines reach, and
whether they ask for a token is a matter of the environment and of files in the user's home. A run that starts Ray for
itself leaves neither to chance: other users of the machine reach the loopback interface too.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ONLY_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for clusters of one machine: where it is 0, all servers bind to 127.0.0.1."""


def closed(token: Path) -> Mapping[str, str]:
    """The environment of a cluster of one machine that asks for the token in a file."""
    return {ONLY_LOOPBACK: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def new_token(folder: Path) -> Path:
    """A file with a random token, which nobody else may read at any time."""
    token = folder / "token"
    with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return token


@contextmanager
def own_cluster() -> Iterator[None]:
    """What this process starts of Ray meanwhile is closed, whatever the environment said before."""
    with tempfile.TemporaryDirectory(prefix="ray-token-") as folder:
        environment = closed(new_token(Path(folder)))
        before = {name: os.environ.get(name) for name in (*environment, "RAY_AUTH_TOKEN")}
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ.update(environment)
        loopback_before = _look_again(loopback=True)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            _look_again(loopback_before)


def _look_again(loopback: bool) -> bool:
    """Has Ray read the environment anew, which it did when it was imported; whether it was on the loopback before."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    before = not ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    return before
