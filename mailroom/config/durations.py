"""Settings that hold a duration: `10m`, and limits: `50/10m`."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from mailroom.outbox.limits import RateLimit

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d)")


def parse_duration(value: Any) -> Any:
    """Read `10m`, `24h`, `8s`, `0`; a bare number is refused, for it has no unit. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    if value == "0" or (value == 0 and not isinstance(value, bool)):
        return timedelta(0)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a duration with its unit: "30s", "10m", "24h" or "7d"')
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _LONGEST_DURATION.total_seconds():
        raise ValueError(f"at most {_LONGEST_DURATION.days}d")
    return timedelta(seconds=seconds)


_LONGEST_DURATION: Final = timedelta(days=36500)

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A setting that is written `10m`."""


_LONGEST_WINDOW: Final = 86400
"""Seconds. The outbox reads the messages of the last window when it is opened."""
_RATE_LIMIT: Final = re.compile(r"\s*([1-9][0-9]{0,5})\s*/\s*(.*)")


def _parse_rate_limit(value: Any) -> Any:
    """Read `50/10m` or `1000/h`; `0` is no limit."""
    if isinstance(value, RateLimit | None):
        return value
    if str(value) == "0":
        return None
    match = _RATE_LIMIT.fullmatch(str(value))
    if match is None:
        raise ValueError('write a limit as a number and a duration, "50/10m", or "0" for no limit')
    seconds = parse_duration(f"1{match[2]}" if match[2].isalpha() else match[2]).total_seconds()
    if not 1 <= seconds <= _LONGEST_WINDOW:
        raise ValueError("the duration of a limit is from 1s to 24h")
    return RateLimit(int(match[1]), seconds)


Limit = Annotated[RateLimit | None, BeforeValidator(_parse_rate_limit)]
"""A setting that is written `50/10m`; None: no limit."""
