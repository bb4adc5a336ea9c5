"""Words that say what a number in a sentence is: the answer, a reason, another number's part. See ``values``."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


JOINTS = frozenset({"and", "or", "&"})
DETERMINERS = _words("the these those all his her their its our")
FUNCTIONS = _words("sin cos tan cot sec csc arcsin arccos arctan log ln exp sqrt pi infinity mod gcd lcm min max i e")
SAYS = _words(
    "is are was were be been equals = makes make give gives gave get gets got have has had yields yield "
    "totals becomes obtain obtained leaves contains : exactly that's it's there's \u2192 \u21d2 \\implies \\rightarrow"
)
"""What the value follows."""
EXPLAINS = _words("since because as which where when if for given by due \u2014 --")
CONCLUDES = _words("so thus therefore hence")
APPROXIMATELY = _words("about approximately approx roughly around nearly almost circa \u2248 \\approx ~")
SPOILS_BEFORE = _words(
    "no neither nor either or than least most over under above below exceeds exceeding between except without "
    "twice thrice half double triple minus plus times within until modulo base step case option question "
    "problem equation part divided multiplied divisible closest unlike besides beyond near before root negative e.g "
    "< > \u2264 \u2265 \u2260"
)
LABELS = _words(
    "of in on with after per every day stop step case option question problem equation part round "
    "stage chapter page figure table year row type"
)
"""Before a number that is only meant where there is no other: "27 of the 40", "27 on day 2"."""
NAMED = _words("type stage grade chapter figure table level version class group phase section row page category model")
"""What is called by a number: in "a type 6 error" it counts nothing."""
FOLLOWS_A_VALUE = _words(
    "of in on at for from with per is was if and or by to so then thus after before as altogether total in all each "
    "exactly only here there respectively overall"
)
"""Words after a number that do not make it another thing's name."""
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million"
)
PARTS = _words(
    "percentage percentages percent tenth tenths hundredth hundredths thousandth thousandths part parts share shares "
    "fraction fractions quarters halves thirds fifths"
)
"""Of something: "40 percentage of 3" is not 40."""
NEGATES = _words("not never cannot")
SPOILS_OF = _words(
    "multiple multiples power powers root roots square cube half third quarter factor factors divisor "
    "divisors product sum difference quotient logarithm factorial opposite reciprocal inverse"
)
"""Of which number: "the square root of 16" is not 16."""
SPOILS_AFTER = _words(
    "or times plus minus over divided squared cubed factorial choose hundred thousand million billion "
    "trillion dozen to through \u2030 permille \xb1 mod modulo short too "
    "score point below above halves thirds quarters fifths"
)
