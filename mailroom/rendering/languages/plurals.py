"""CLDR's plural rules for the non-negative integers below a million: `rule("pl").form(5)` is `many`.

A rule is written as in gettext's PO files: an expression of `n` that gives the index of the form.
"""

from collections.abc import Callable
from gettext import c2py
from typing import Final, NamedTuple


class PluralRule(NamedTuple):
    """A language's plural forms, and a function that gives the index of a number's form."""

    forms: tuple[str, ...]
    select: Callable[[int], int]

    def form(self, number: int) -> str:
        """Return the form of a number."""
        return self.forms[self.select(number)]


def rule(tag: str) -> PluralRule:
    """Return the plural rule of a language (BCP 47); English's ("one", "other") for languages not listed."""
    return _RULES.get(tag) or _RULES.get(tag.partition("-")[0]) or _GERMANIC


_GERMANIC: Final = PluralRule(("one", "other"), c2py("n != 1"))
_FRENCH: Final = PluralRule(("one", "other"), c2py("n > 1"))
_ASIAN: Final = PluralRule(("other",), c2py("0"))
_SLAVIC_REST: Final = "n%10 >= 2 && n%10 <= 4 && (n%100 < 12 || n%100 > 14) ? 1 : 2"
_SLAVIC: Final = PluralRule(("one", "few", "many"), c2py(f"n%10 == 1 && n%100 != 11 ? 0 : {_SLAVIC_REST}"))
_POLISH: Final = PluralRule(("one", "few", "many"), c2py(f"n == 1 ? 0 : {_SLAVIC_REST}"))
_CZECH: Final = PluralRule(("one", "few", "other"), c2py("n == 1 ? 0 : n >= 2 && n <= 4 ? 1 : 2"))
_ARABIC: Final = PluralRule(
    ("zero", "one", "two", "few", "many", "other"),
    c2py("n <= 2 ? n : n%100 >= 3 && n%100 <= 10 ? 3 : n%100 > 10 ? 4 : 5"),
)

_RULES: Final = {
    "ar": _ARABIC, "cs": _CZECH, "fa": _FRENCH, "fr": _FRENCH, "ja": _ASIAN, "ko": _ASIAN, "pl": _POLISH,
    "pt": _FRENCH, "pt-PT": _GERMANIC, "ru": _SLAVIC, "th": _ASIAN, "uk": _SLAVIC, "zh": _ASIAN,
}  # fmt: skip
