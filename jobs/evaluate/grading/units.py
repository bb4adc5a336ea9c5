"""Units at the end of an answer: left out or spelt otherwise they make no difference, another unit does.

A unit is a ``\text{}`` (``\\mbox{}``, ``\\mathrm{}``) after a value, a word of :data:`_NAMES` after a space, a degree
sign, or a currency sign before it. Inside ``\text{}`` anything counts as one ("5 \text{ apples}"), but only those known
here are told apart.
"""

from __future__ import annotations

import re

from jobs.evaluate.grading.words import DOLLAR

_KINDS = {
    "millimeter": "mm millimeters millimetre millimetres",
    "centimeter": "cm centimeters centimetre centimetres",
    "meter": "m meters metre metres",
    "kilometer": "km kilometers kilometre kilometres",
    "inch": "in inches",
    "foot": "ft feet",
    "yard": "yd yards",
    "mile": "mi miles",
    "second": "s sec secs seconds",
    "minute": "min mins minutes",
    "hour": "h hr hrs hours",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years",
    "gram": "g grams",
    "kilogram": "kg kilograms",
    "pound": "lb lbs pounds",
    "ounce": "oz ounces",
    "liter": "l liters litre litres",
    "milliliter": "ml milliliters millilitre millilitres",
    "dollar": "dollars usd",
    "cent": "cents",
    "degree": "degrees",
    "radian": "rad radians",
    "unit": "units",
    "mile per hour": "mph mi/h",
    "kilometer per hour": "km/h kmh kph",
    "meter per second": "m/s",
    "hertz": "hz",
    "newton": "newtons",
    "joule": "joules",
    "watt": "watts",
    "euro": "euros eur",
}
_NAMES = {name: kind for kind, others in _KINDS.items() for name in (kind, *others.split())}
_PROSE = "|".join(sorted((re.escape(name) for name in _NAMES if len(name) > 1), key=len, reverse=True))
_POWER = r"(?:\s*\^\s*\{?\s*(?P<%s>[23])\s*\}?)?"
_WRAPPED = re.compile(
    r"^(?P<value>.*\S)\s*\\(?:text|mbox|mathrm|hbox|textrm)\s*\{(?P<unit>[^{}]*)\}" + _POWER % "power" + "$", re.DOTALL
)
_UNIT = re.compile(
    rf"(?:(?:square|sq\.?|cubic)\s+)?(?:{_PROSE})(?:\s+squared|\s+cubed)?(?:\s*\^\s*\{{?\s*[23]\s*\}}?)?\.?",
    re.IGNORECASE,
)
_WORDS = re.compile(
    rf"^(?P<value>.*(?:[\d}})]|\\pi))\s*(?P<unit>(?:(?:square|sq\.?|cubic)\s+)?(?:{_PROSE})(?:\s+squared|\s+cubed)?)"
    + _POWER % "power"
    + "$",
    re.DOTALL | re.IGNORECASE,
)
_DEGREES = re.compile(
    r"^(?P<value>.*\S)\s*\^\s*(?:\\circ(?:\s*(?:[CF]|\\(?:text|mathrm)\s*\{\s*[CF]\s*\}))?|(?<=\d\^)\{?o\}?)$",
    re.DOTALL,
)
_PER = re.compile(r"\s*\}\s*/\s*\\(?:text|mathrm)\s*\{\s*")
_CURRENCY = re.compile(f"^(?P<sign>[{DOLLAR}\u20ac\u00a3\u00a5])\\s*(?P<value>.+)$", re.DOTALL)


def split(text: str) -> tuple[str, str | None]:
    """A tidy answer without its unit, and which unit that was: ``square meter``, "" for one not known here, None."""
    if match := _DEGREES.match(text):
        return match["value"], "degree"
    if match := _CURRENCY.match(text):
        return match["value"], "dollar" if match["sign"] == DOLLAR else match["sign"]
    match = _WRAPPED.match(_PER.sub("/", text)) or _WORDS.match(text)
    if match is None or not re.search(r"\d|\\pi", match["value"]):
        return text, None
    return match["value"].strip(), _named(match["unit"], match["power"])


def is_unit(text: str) -> bool:
    """Whether `text` is the name of a unit known here, of a length's square perhaps."""
    return _UNIT.fullmatch(text.strip()) is not None


def _named(unit: str, power: str | None) -> str:
    words = unit.replace(".", " ").replace("^", " ").casefold().split()
    powers = {"square": "2", "sq": "2", "squared": "2", "2": "2", "cubic": "3", "cubed": "3", "3": "3"}
    raised = power or next((powers[word] for word in words if word in powers), "")
    named = [_NAMES[word] for word in words if word in _NAMES]
    if len(named) != 1 or len([word for word in words if word not in powers]) != 1:
        return ""
    return named[0] + raised
