"""CLDR's plural rules for the non-negative integers below a million: `rule("pl").form(5)` is `many`."""

from collections.abc import Callable
from typing import Final, NamedTuple


class PluralRule(NamedTuple):
    """A language's plural forms, and a function that gives the form of a number."""

    forms: tuple[str, ...]
    form: Callable[[int], str]


def rule(tag: str) -> PluralRule:
    """Return the plural rule of a language (BCP 47); English's ("one", "other") for languages not listed."""
    return _RULES.get(tag) or _RULES.get(tag.partition("-")[0]) or _GERMANIC


def _one_if_1(number: int) -> str:
    return "one" if number == 1 else "other"


def _one_if_0_or_1(number: int) -> str:
    return "one" if number in (0, 1) else "other"


def _always_other(_: int) -> str:
    return "other"


def _czech(number: int) -> str:
    return "one" if number == 1 else "few" if number in (2, 3, 4) else "other"


def _polish(number: int) -> str:
    form = _slavic(number)
    return "one" if number == 1 else "many" if form == "one" else form


def _slavic(number: int) -> str:
    last, teens = number % 10, number % 100 in (11, 12, 13, 14)
    if last == 1 and not teens:
        return "one"
    return "few" if last in (2, 3, 4) and not teens else "many"


def _arabic(number: int) -> str:
    if number <= 2:  # noqa: PLR2004 - from CLDR's rule
        return ("zero", "one", "two")[number]
    last = number % 100
    return "few" if 3 <= last <= 10 else "many" if last > 10 else "other"  # noqa: PLR2004 - likewise


_GERMANIC: Final = PluralRule(("one", "other"), _one_if_1)
_FRENCH: Final = PluralRule(("one", "other"), _one_if_0_or_1)
_ASIAN: Final = PluralRule(("other",), _always_other)
_SLAVIC: Final = PluralRule(("one", "few", "many"), _slavic)

_RULES: Final = {
    "ar": PluralRule(("zero", "one", "two", "few", "many", "other"), _arabic),
    "cs": PluralRule(("one", "few", "other"), _czech),
    "fa": _FRENCH,
    "fr": _FRENCH,
    "ja": _ASIAN,
    "ko": _ASIAN,
    "pl": PluralRule(("one", "few", "many"), _polish),
    "pt": _FRENCH,
    "pt-PT": _GERMANIC,
    "ru": _SLAVIC,
    "th": _ASIAN,
    "uk": _SLAVIC,
    "zh": _ASIAN,
}
