r"""Answers as text: what LaTeX and markdown put around them taken away, so that the same answer is the same text.

:func:`tidy` and :func:`plain` keep everything that could make a difference. :func:`words` goes further, for answers
that are words: case, articles and punctuation are no part of them.
"""

from __future__ import annotations

import re
from fractions import Fraction

from jobs.evaluate.grading.markup import unwrapped

_NO_SPACE = re.compile(r"(?<!\\)\\!")
_SPACES = re.compile(r"(?<!\\)\\(?:[,;:> ]|quad(?![a-zA-Z])|qquad(?![a-zA-Z]))|[~\s]+")
_SIZES = re.compile(
    r"\\(?:displaystyle|textstyle|limits|nolimits|left|right|[bB]igg?[lr]?|bf|rm|it|mathbf|boldsymbol|bm|underline|small|normalsize|[lL]arge|LARGE|[hH]uge)"
    r"(?![a-zA-Z])|\\(?:text)?color\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}"
)
_ALIGNED = re.compile(r"\\(?:begin|end)\s*\{(?:aligned|align|gathered|split|equation)\*?\}")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar|dot)\s*(?:\{(\d{1,50})\}|(\d))")
"""A repeating decimal: ``0.1\\overline{6}``."""
_BETWEEN = re.compile(r"(?<!\d) +| +(?!\d)")
"""Spaces but those between two digits: 1 6 is not 16."""
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]|\$")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_LOOSE_COMMA = re.compile(r",\s*\\!\s*")
_THOUSANDS = re.compile(r"(?<![\d.,(\[])(?<!\\\{)(\d{1,3}(?:,\d{3})+)(?![\d,])")
"""Digits in groups of three; ``(1,234)`` is a pair."""
DOLLAR = "\uff04"
"""What ``\\$`` is written as, so that it is not taken for a delimiter of mathematics."""
_REPLACED = {
    **dict.fromkeys("\u2212\ufe63\uff0d\u2012\u2010\u2011", "-"),
    "\u2215": "/",
    "\u2044": "/",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\degree": "^\\circ",
    "\u00b0": "^\\circ",
    "\u00ba": "^\\circ",
    "^{\\circ}": "^\\circ",
    "^ \\circ": "^\\circ",
    "^{ \\circ }": "^\\circ",
    "\\%": "%",
    "\uff05": "%",
    "\\$": DOLLAR,
    "\\\\": " \\\\ ",
    "{,}": ",",
    "\\le ": "\\leq ",
    "\\ge ": "\\geq ",
    "\u2264": "\\leq ",
    "\u2265": "\\geq ",
    "\u2260": "\\neq ",
    "\u2248": "\\approx ",
    "\u2208": "\\in ",
    "\u222a": "\\cup ",
    "\u2229": "\\cap ",
    "\u00b1": "\\pm ",
    "\u03c0": "\\pi ",
    "\u221e": "\\infty ",
    "\u00d7": "\\times ",
    "\u00b7": "\\cdot ",
    "\u22c5": "\\cdot ",
    "\u221a": "\\sqrt ",
    **{
        vulgar: f"\\frac{{{above}}}{{{below}}}"
        for vulgar, above, below in zip("\u00bd\u00bc\u00be\u2153\u2154", "11312", "24433", strict=True)
    },
}
_QUOTES = re.compile(r"""^(?:"(.*)"|'(.*)'|\u201c(.*)\u201d|\u2018(.*)\u2019|``(.*)''|\u00ab(.*)\u00bb)$""", re.DOTALL)
_SUPERSCRIPT = re.compile("[\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+")
_DIGITS = str.maketrans("\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "-0123456789")
_RANGE = re.compile(r"(?<=[\d)}%])\u2013(?=[\d\\(])")
"""An en dash between numbers; elsewhere it is a minus."""
_THIN_THOUSANDS = re.compile(
    r"(?<![\d.,])\d{1,3}(?:(?:\\[,;: ]|\\thinspace\s|[\u2009\u202f\u00a0~])\d{3})+(?![\d])|^\d{1,3}(?: \d{3})+$"
)
_NOT_DIGITS = re.compile(r"\D+|thinspace")
_PERCENT = re.compile(r"(?<=[\d}])\s*(?:%|per ?cent\b|pct\b\.?|\\text\s*\{\s*(?:%|per ?cent)\s*\})", re.IGNORECASE)
_HALF_OF_DAY = re.compile(
    r"(?<=:\d\d) ?(?:\\(?:text|mathrm)\s*\{ ?([ap])\.? ?m\b\.? ?\}|([ap])\.? ?m\b(?:\.(?!\s*$))?)", re.IGNORECASE
)
_OPERATORS = re.compile(r"\s*([\^_/])\s*")
_LEADING_SIGN = re.compile(r"(?:^|(?<=[=(,{\[]))\s*([-+]) (?=[\d\\.A-Za-z])")
_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({-])")
_PI = re.compile(r"(?<![A-Za-z\\])(?:pi|PI|Pi)(?![A-Za-z])")
_ROOT = re.compile(r"(?:(?<![A-Za-z\\])sqrt|\\sqrt)\s*(?:\((?P<inside>[^()]*)\)|(?P<number>\d+)(?![\d.]))")
_MIXED = re.compile(r"(?<![\d./])(\d+) (\d+)/(\d+)(?![\d/])")
_SCIENTIFIC = re.compile(r"(?<![\w.\\])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?!\w)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_NOT_WORDS = re.compile(r"[^\w\s%+-]|_")
_ARTICLES = {"a", "an", "the"}
RANGE = "\ue001"
"""What an en dash between two numbers is written as."""


def characters(text: str) -> str:
    """`text` with one character or command for what has several: minus signs, degrees, percent, fractions, spaces."""
    text = _THIN_THOUSANDS.sub(lambda match: _NOT_DIGITS.sub("", match[0]), text)
    text = _RANGE.sub(RANGE, text).replace("\u2013", "-")
    if _ALIGNED.search(text):
        text = _ALIGNED.sub(" ", text).replace("\\\\", " ").replace("&", "")
    for written, meant in _REPLACED.items():
        text = text.replace(written, meant)
    text = _SUPERSCRIPT.sub(lambda match: f"^{{{match[0].translate(_DIGITS)}}}", text)
    text = _SPACES.sub(" ", _NO_SPACE.sub("", _LOOSE_COMMA.sub(",", _SIZES.sub("", text))))
    return _HALF_OF_DAY.sub(lambda match: f"{match[1] or match[2]}m", _PERCENT.sub("%", text))


def tidy(text: str) -> str:
    r"""`text` with one way of writing things: ``$\dfrac{1}{2}$.`` is ``\frac{1}{2}``, and ``10,\!080`` is ``10080``.

    Letters keep their case, and words inside ``\text{}`` their wrapper: ``\text{m}`` is a unit and ``m`` a variable.
    """
    text = text.strip().strip("*`").strip()
    if quoted := _QUOTES.match(text):
        text = next(group for group in quoted.groups() if group is not None)
    text = _FRACTION.sub(r"\\frac", _DELIMITERS.sub("", characters(text)))
    text = _REPEATING.sub(_repeating, _THOUSANDS.sub(lambda match: match[1].replace(",", ""), text))
    text = _ROOT.sub(_rooted, _PI.sub(r"\\pi ", _POWER.sub("^", text)))
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", _OPERATORS.sub(r"\1", _SCIENTIFIC.sub(r"\1 \\times 10^{\2}", text)))
    text = _LEADING_SIGN.sub(r"\1", _SPACES.sub(" ", text))
    return _ungrouped(text.strip().rstrip(".;,").strip())


def _repeating(match: re.Match[str]) -> str:
    whole, fixed, period = match[1], match[2], match[3] or match[4]
    fraction = Fraction(
        int(f"0{whole}{fixed}{period}") - int(f"0{whole}{fixed}"), (10 ** len(period) - 1) * 10 ** len(fixed)
    )
    return f"\\frac{{{fraction.numerator}}}{{{fraction.denominator}}}"


def _rooted(match: re.Match[str]) -> str:
    return f"\\sqrt{{{match['inside'] if match['inside'] is not None else match['number']}}}"


def _ungrouped(text: str) -> str:
    """`text` without braces around all of it."""
    while text.startswith("{") and _closes(text) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _closes(text: str) -> int:
    """Where the brace that `text` begins with is closed; -1 where it is not."""
    depth = 0
    for match in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return -1


def plain(text: str) -> str:
    """:func:`tidy`, without the spaces that mean nothing: two answers with one plain form are one answer."""
    return _BETWEEN.sub("", tidy(text))


def words(text: str) -> str:
    """`text` as words in lower case, one space between them, articles and punctuation left out."""
    tokens = _NOT_WORDS.sub(" ", unwrapped(_DELIMITERS.sub("", text))).casefold().split()
    return " ".join(word for word in tokens if word not in _ARTICLES) or " ".join(tokens)
