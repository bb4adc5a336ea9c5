"""What pages have in common: HTML whose data is never taken for markup.

What models and users wrote is hostile until shown otherwise. The template engine escapes it, scripts set it as text,
and a content security policy lets run nothing but the page's own script, by its hash: no handler, no other script, and
no request to anywhere but where the page says.

::

    template("jobs.evaluate.report", "page.html.j2").render(policy=security_policy(css, script), …)
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template


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
def template(package: str, name: str) -> Template:
    """A file of a package as a template, with :func:`visible` as a filter; a name that it is not given is an error.

    It may import other files of its package, and of others by ``package:file``.
    """
    loader = FunctionLoader(lambda wanted: own_file(*(wanted.split(":") if ":" in wanted else (package, wanted))))
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    environment.filters["visible"] = visible
    return environment.get_template(name)


def own_file(package: str, name: str) -> str:
    """A file of a package, as text."""
    return files(package).joinpath(name).read_text(encoding="utf-8")
