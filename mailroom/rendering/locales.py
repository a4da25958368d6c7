"""Chooses the language of a mail among those that there are words for."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_FARTHEST: Final = 8
"""Of langcodes' distances: 4 is a regional variant (fr-CA, fr), 8 what its readers read anyway (gsw, de).

The default of 25 gives Russian to a Belarusian reader and Spanish to a Basque one; at 9 a Croatian gets Serbian.
"""

_ALIASES: Final = {"yue": "zh-Hant-HK"}
"""CLDR puts written Cantonese 10 away from the Chinese of Hong Kong, which is what its readers write."""


def choose(tags: Iterable[str], available: tuple[str, ...], default: str) -> str:
    """Return the first of `available` that a reader of one of these tags (BCP 47, best first, unchecked) reads well."""
    for tag in tags:
        if found := tag if tag in available else _closest(tag, available):
            return found
    return default


def is_tag(tag: str) -> bool:
    """Tell whether this is a language tag (BCP 47) of registered parts."""
    import langcodes  # noqa: PLC0415 - its tables take 25 ms to load

    return langcodes.tag_is_valid(tag)


@lru_cache(maxsize=1024)
def _closest(tag: str, available: tuple[str, ...]) -> str | None:
    """Return the closest of `available`, or None. The tags are a stranger's: the cache is bounded."""
    import langcodes  # noqa: PLC0415 - likewise

    language, *_ = tag.replace("_", "-").lower().split("-", 1)
    try:
        found, _ = langcodes.closest_match(_ALIASES.get(language, tag), list(available), max_distance=_FARTHEST)
    except ValueError:  # LanguageTagError: no tag at all
        return None
    return None if found == "und" else found
