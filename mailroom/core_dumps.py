"""Keeps secrets out of core dumps: a dump holds keys, payloads and codes as they are in memory."""

import resource
from contextlib import suppress


def forbid() -> None:
    """Set the limit of core dumps to 0 for this process and its children (setrlimit(2)).

    systemd-coredump and apport, which get dumps through a pipe, heed the limit, too.
    """
    with suppress(OSError, ValueError):  # a sandbox may forbid it; deploy/mailroom.service sets LimitCORE=0 itself
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
