"""Writes dates and times as a language does, by the table `[dates]` of its file.

`date` and `time` are patterns: `"{month} {day}, {year}"` and `"{date}, {hour:02}:{minute:02} UTC"`. `months` are twelve
names; without them `{month}` is the month's number.
"""

import string
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailroom.clock import Instant

_KEYS: Final = ("months", "date", "time")
_DATE: Final = {"year": 2026, "month": "", "day": 1}
_TIME: Final = {"date": "", "hour": 1, "minute": 1}


@dataclass(frozen=True, slots=True)
class DateFormat:
    """The patterns of one language. All times are UTC, because the reader's time zone is not known."""

    date_pattern: str = "{year}-{month:02}-{day:02}"
    """ISO 8601 for languages without patterns, as are the other defaults."""
    time_pattern: str = "{date} {hour:02}:{minute:02} UTC"
    months: tuple[str, ...] = ()
    digits: str = string.digits

    def format_date(self, instant: Instant) -> str:
        """Return the day, with the month's name."""
        return self._localize(self._day(time.gmtime(instant)))

    def format_time(self, instant: Instant) -> str:
        """Return day and time to the minute."""
        parts = time.gmtime(instant)
        date = self._day(parts)
        return self._localize(self.time_pattern.format(date=date, hour=parts.tm_hour, minute=parts.tm_min))

    def _day(self, parts: time.struct_time) -> str:
        month = self.months[parts.tm_mon - 1] if self.months else parts.tm_mon
        return self.date_pattern.format(year=parts.tm_year, month=month, day=parts.tm_mday)

    def _localize(self, text: str) -> str:
        if self.digits == string.digits:
            return text
        return text.translate(str.maketrans(string.digits, self.digits))


def parse_dates(table: Any) -> Mapping[str, Any]:
    """Return the checked table `[dates]` of a file. Raises ValueError, which begins with the faulty key."""
    if not isinstance(table, dict):
        raise ValueError("dates is not a table")  # noqa: TRY004 - one kind of error for the caller
    for key, value in table.items():
        if key not in _KEYS:
            raise ValueError(f"{key} is unknown; the keys are {', '.join(_KEYS)}")
        if key == "months":
            if not isinstance(value, list) or len(value) != 12 or not all(isinstance(name, str) for name in value):  # noqa: PLR2004 - months
                raise ValueError("months must be twelve names")
            continue
        fields = _DATE if key == "date" else _TIME
        try:
            value.format(**fields)
        except (AttributeError, KeyError, IndexError, ValueError):
            names = ", ".join(f"{{{name}}}" for name in fields)
            raise ValueError(f"{key} is not a pattern of {names}") from None
    return table


def date_format(table: Mapping[str, Any], digits: str) -> DateFormat:
    """Return the format of a checked table."""
    default = DateFormat()
    return DateFormat(
        table.get("date", default.date_pattern),
        table.get("time", default.time_pattern),
        tuple(table.get("months", ())),
        digits or default.digits,
    )
