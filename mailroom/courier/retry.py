"""When a message is tried again: pure functions of what has happened."""

from typing import Final

from mailroom.clock import Instant
from mailroom.message import Priority

_CODE_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds; the last one repeats until the code's lifetime ends."""
_OTHER_DELAYS: Final = (30.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 14400.0)
"""Seconds; the last one repeats."""
MOST_ROUNDS: Final = {Priority.CODE: 40, Priority.INVITATION: 24, Priority.EVENT: 20}
"""Rounds through the route's providers before an operator is asked."""
_SPREAD: Final = 0.2
"""Delays grow by up to a fifth, so that what failed together does not come back together."""


def next_round(
    priority: Priority,
    rounds: int,
    *,
    now: Instant,
    retry_after: float | None = None,
    is_brief: bool = False,
    jitter: float = 0.0,
) -> Instant | None:
    """Return when the route is tried again after so many failed rounds (1 or more); None: the tries are used up.

    `retry_after` is what a provider asked for, in seconds; `is_brief`: the first delays are as short as a code's;
    `jitter` is a random number from 0 to 1. Whether the moment still lies within the message's lifetime is the caller's
    to see.
    """
    if rounds >= MOST_ROUNDS[priority]:
        return None
    delays: tuple[float, ...] = _CODE_DELAYS if priority is Priority.CODE else _OTHER_DELAYS
    if is_brief and priority is not Priority.CODE:
        delays = (*_CODE_DELAYS, *_OTHER_DELAYS)
    delay = delays[min(rounds, len(delays)) - 1] * (1 + _SPREAD * jitter)
    return now + max(delay, retry_after or 0.0)
