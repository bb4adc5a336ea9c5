"""What a sentence tells where the answer is words: ``Paris`` of "So the capital of France is Paris, because ..."."""

from __future__ import annotations

import re

LONGEST = 1000
"""Characters. A longer answer is taken as it is."""

_REASON = re.compile(
    r"(?<=[^\s,;]),? (?:because|since|due to)\b.*|(?<=[^\s(]) \([^()]*\)(?=[.!]?$)", re.IGNORECASE | re.DOTALL
)
_LEAD = re.compile(
    r"(?:(?:so|thus|therefore|hence|then),? )?"
    r"(?:it|that|this|(?:the|my|our) [^.,;:?!]{1,80}?) (?:is|was|are|were|"
    r"must be|would be|should be|will be)(?: called)?:? ",
    re.IGNORECASE,
)
_OTHERWISE = re.compile(r"\b(?:not|never|no|neither|nor)\b|n['\u2019]t\b", re.IGNORECASE)
"""What makes a sentence say something else than the words that it ends with."""


def told(text: str) -> str:
    """`text` without what leads to its answer and what explains it; all of it where no rule can tell."""
    if len(text) > LONGEST:
        return text
    said = _REASON.sub("", text)
    if _OTHERWISE.search(said):
        return text
    return _LEAD.sub("", said, count=1) if _LEAD.match(said) else said
