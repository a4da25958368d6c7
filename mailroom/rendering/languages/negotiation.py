"""Chooses the language of a mail among those that have translations."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_MAX_DISTANCE: Final = 8
"""Maximum distance in langcodes: 4 is a regional variant (fr-CA, fr), 8 a closely related language (gsw, de).

Its default of 25 gives Russian to Belarusian readers and Spanish to Basque ones; 9 gives Serbian to Croatian ones.
"""

_ALIASES: Final = {"yue": "zh-Hant-HK"}
"""CLDR gives Cantonese a distance of 10 from zh-Hant-HK, although its readers write that."""


def choose(tags: Iterable[str], available: tuple[str, ...], default: str) -> str:
    """Return the available language closest to the first matching tag (BCP 47, best first, may be invalid)."""
    for tag in tags:
        if match := tag if tag in available else _closest(tag, available):
            return match
    return default


def is_tag(tag: str) -> bool:
    """Return whether this is a valid language tag (BCP 47) with registered subtags."""
    import langcodes  # noqa: PLC0415 - its tables take 25 ms to load

    return langcodes.tag_is_valid(tag)


@lru_cache(maxsize=1024)
def _closest(tag: str, available: tuple[str, ...]) -> str | None:
    """Return the closest of `available`, or None. Tags come from requests, so the cache is bounded."""
    import langcodes  # noqa: PLC0415 - likewise

    language, *_ = tag.replace("_", "-").lower().split("-", 1)
    try:
        match, _ = langcodes.closest_match(_ALIASES.get(language, tag), list(available), max_distance=_MAX_DISTANCE)
    except ValueError:  # LanguageTagError: not a language tag
        return None
    return None if match == "und" else match
