"""Dates and times in every language, compared with CLDR's by Babel."""

import string
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from babel import Locale as CldrLocale
from babel import dates

from mailroom.rendering.languages.dates import DateFormat, date_format
from tests.rendering.test_languages import FILES, LOGTO

MOMENTS: Final = [
    datetime(2026, 1, 9, 9, 5, tzinfo=UTC) + timedelta(days=31 * month, hours=month) for month in range(12)
]


def format_of(tag: str) -> DateFormat:
    return date_format(FILES[tag]["dates"], FILES[tag].get("digits", ""))


def in_digits_of(tag: str, text: str) -> str:
    """Return a text of Babel's in the language's digits. U+202F becomes U+00A0, which old fonts of Outlook have."""
    digits = FILES[tag].get("digits", string.digits)
    return text.replace("\u202f", "\u00a0").translate(str.maketrans(string.digits, digits))


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_a_date_is_cldrs_long_one(tag: str) -> None:
    for moment in MOMENTS:
        expected = dates.format_date(moment, "long", CldrLocale.parse(tag, sep="-"))
        assert format_of(tag).format_date(moment.timestamp()) == in_digits_of(tag, expected)


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_a_time_is_cldrs_in_24_hours_and_says_utc(tag: str) -> None:
    locale = CldrLocale.parse(tag, sep="-")
    for moment in MOMENTS:
        date = dates.format_date(moment, "long", locale)
        time = dates.format_skeleton("Hm", moment, locale=locale)
        expected = str(locale.datetime_formats["long"]).replace("{1}", date).replace("{0}", time)
        assert format_of(tag).format_time(moment.timestamp()) == in_digits_of(tag, f"{expected} UTC")


def test_a_language_without_patterns_has_iso_dates() -> None:
    moment = datetime(2026, 3, 5, 7, 9, 59, tzinfo=UTC).timestamp()
    assert DateFormat().format_date(moment) == "2026-03-05"
    assert DateFormat().format_time(moment) == "2026-03-05 07:09 UTC"
