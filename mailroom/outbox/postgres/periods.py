"""Looks something up in a long history.

Its indexes of what is in no order, such as recipients, begin with a message's period: the first characters of its id,
which is 3 days. So settling changes pages of the latest period only, however long the history is: with a million
messages it was a fifth slower otherwise, and after a checkpoint logged 16 KB of pages for each. A look-up tries each
period.
"""

from typing import Final

PERIOD: Final = "left(id, 5)"
"""As the indexes have it."""

_PERIODS: Final = f"""ARRAY (
           WITH RECURSIVE found (period) AS (
               SELECT (SELECT min({PERIOD}) FROM mailroom.history WHERE {PERIOD} >= left({{first}}, 5))
                UNION ALL
               SELECT (SELECT min({PERIOD}) FROM mailroom.history WHERE {PERIOD} > found.period)
                 FROM found
                WHERE found.period IS NOT NULL)
           SELECT period FROM found WHERE period IS NOT NULL)"""  # noqa: S608 - a constant


def in_any_period(first: str = "''") -> str:
    """Return the condition with which an index is searched; `first`: an id that none is before, as SQL."""
    return f"{PERIOD} = ANY ({_PERIODS.format(first=first)})"
