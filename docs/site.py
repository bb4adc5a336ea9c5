"""What tells the site from the pages of a repository: its first page is README.md, and it links to pages alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)\s]+\)")
_INTO_DOCS = re.compile(r"\]\(docs/([^)\s]+)\)")
_IN_ROOT = re.compile(r"\[([^\]]+)\]\((?!https?:|#|docs/)[^)\s]+\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the first page, and leaves this file out."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri == "site.py"]:
        files.remove(file)
    files.append(File.generated(config, "index.md", content=first_page((ROOT / "README.md").read_text())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What a page links to outside docs/ is no page of the site: its words stay."""
    return _OUTSIDE.sub(r"\1", markdown)


def first_page(readme: str) -> str:
    """README.md as a page of the site."""
    return _INTO_DOCS.sub(r"](\1)", _IN_ROOT.sub(r"\1", readme))
