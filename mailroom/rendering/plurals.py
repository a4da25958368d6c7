"""Which form of a word goes with a number: CLDR's plural rules, for whole numbers as small as minutes are."""

from collections.abc import Callable
from typing import Final, NamedTuple


class Rule(NamedTuple):
    """The forms that a language has, and which of them goes with a number."""

    forms: tuple[str, ...]
    form: Callable[[int], str]


def rule(tag: str) -> Rule:
    """Return the rule of a language (BCP 47); "one" and "other", as in English, for those not listed."""
    return _RULES.get(tag) or _RULES.get(tag.partition("-")[0]) or _GERMANIC


def _one_is_one(number: int) -> str:
    return "one" if number == 1 else "other"


def _nought_is_one(number: int) -> str:
    return "one" if number in (0, 1) else "other"


def _one_form(_: int) -> str:
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
    if number <= 2:  # noqa: PLR2004 - the rule's own number
        return ("zero", "one", "two")[number]
    last = number % 100
    return "few" if 3 <= last <= 10 else "many" if last > 10 else "other"  # noqa: PLR2004 - likewise


_GERMANIC: Final = Rule(("one", "other"), _one_is_one)
_FRENCH: Final = Rule(("one", "other"), _nought_is_one)
_ASIAN: Final = Rule(("other",), _one_form)
_SLAVIC: Final = Rule(("one", "few", "many"), _slavic)

_RULES: Final = {
    "ar": Rule(("zero", "one", "two", "few", "many", "other"), _arabic),
    "cs": Rule(("one", "few", "other"), _czech),
    "fa": _FRENCH,
    "fr": _FRENCH,
    "ja": _ASIAN,
    "ko": _ASIAN,
    "pl": Rule(("one", "few", "many"), _polish),
    "pt": _FRENCH,
    "pt-PT": _GERMANIC,
    "ru": _SLAVIC,
    "th": _ASIAN,
    "uk": _SLAVIC,
    "zh": _ASIAN,
}
