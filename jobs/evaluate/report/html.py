"""What pages on results have in common: one HTML file each, whose data is never taken for markup.

What models and users wrote is hostile until shown otherwise. The template engine escapes it, scripts set it as text
(``nodes.js``), and a content security policy lets run nothing but the page's own script, by its hash: no handler, no
other script, and no request to anywhere but where the page says.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template


def visible(text: object) -> str:
    """`text` with the characters that have no look of their own spelled out, and none that turns the text around it."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\u{ord(letter):04x}" for letter in str(text)
    )


def security_policy(css: str, script: str, connect: str = "'none'") -> str:
    """The content security policy of a page: this style and this script, and requests to `connect` alone."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (css, script)
    )
    return (
        f"default-src 'none'; style-src 'sha256-{style_hash}'; script-src 'sha256-{script_hash}'; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


@lru_cache
def template(text: str) -> Template:
    """A page's template, with :func:`visible` as a filter; a name that it is not given is an error."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["visible"] = visible
    return environment.from_string(text)


def own_file(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
