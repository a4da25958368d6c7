"""`python -m mailroom.checking`: what `beside` starts. An order on standard input, a report on standard output."""

import os
import pickle
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

_LOWEST: Final = 19
_RESTS: Final = 2.0
"""Seconds for each that it worked: where the server's share of a processor is measured, ours counts as well."""
_MOST_SECONDS: Final = 600
"""Of processor time."""


class Pace:
    """Works a while, rests a while."""

    def __init__(self) -> None:
        self._worked = time.process_time()

    def __call__(self) -> None:
        """Rest for what was done since the last time."""
        time.sleep((time.process_time() - self._worked) * _RESTS)
        self._worked = time.process_time()


def step_back() -> None:
    """Let everybody go before us, and be the first to go where memory is short; as far as we may."""
    with suppress(OSError, AttributeError):
        os.nice(_LOWEST)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with suppress(OSError, ValueError, ImportError):
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))


def main() -> None:
    """Carry out one order."""
    step_back()
    from mailroom.checking.beside import carry_out  # noqa: PLC0415 - after stepping back: it takes half a second

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    order = pickle.load(sys.stdin.buffer)  # noqa: S301 - it comes from the server that started us
    with answer:
        answer.write(msgspec.json.encode(carry_out(order, Pace())))


if __name__ == "__main__":
    main()
