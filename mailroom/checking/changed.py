"""Renders the mails that an operator's templates change, so that a fault is in the log before a mail meets it.

This runs on the server's event loop, a few milliseconds at a time. The bundled templates are proven by the tests, and
whatever else could be said of an operator's is left to `mailroom check`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from mailroom.checking.making import Desk
from mailroom.checking.samples import Sample
from mailroom.checking.touched import comparison
from mailroom.clock import Clock
from mailroom.rendering.inventory import Inventory, Owner

Checked: TypeAlias = dict[Owner | None, Inventory]
"""What the mails of everybody (None) and of single owners were made of when they were checked."""

_SAMPLES: Final = (Sample.FULL, Sample.NULL)
_SLICE_SECONDS: Final = 0.003
"""After so long on the event loop it rests. One rendering takes 0.5 ms."""
_REST: Final = 3.0
"""Seconds of rest for each second of work: three of four requests find an idle loop."""
_PAUSE_SECONDS: Final = 60.0

log = structlog.get_logger()


async def watch_templates(desk: Desk, clock: Clock) -> None:
    """Check what the overlay changes, now and after each change of a file; until cancelled."""
    checked: Checked = {}
    while True:
        try:
            await check_changed_templates(desk, checked, clock)
            await desk.writer.wait_for_change(clock)
        except Exception:
            log.exception("templates.unchecked", remedy="run `mailroom check`")
            await clock.sleep(_PAUSE_SECONDS)


async def check_changed_templates(desk: Desk, checked: Checked, clock: Clock) -> None:
    """Render each mail that an overlay changes, and note what it is made of; what was checked before is left out.

    The writer logs what fails as `template.faulty`, and writes with the layer below it.
    """
    began = clock.monotonic()
    for _ in _renderings(desk, checked):
        worked = clock.monotonic() - began
        if worked >= _SLICE_SECONDS:
            await clock.sleep(worked * _REST)
            began = clock.monotonic()


def _renderings(desk: Desk, checked: Checked) -> Iterator[None]:
    """Yield after each rendering, and after each look whether there is one to do."""
    everybodys = desk.inventory
    for owner in (None, *desk.writer.owners):
        at = replace(desk, owner=owner)
        above = at.inventory
        below = everybodys if owner else everybodys.below
        if below is None or above.is_same(checked.get(owner)):
            continue
        checked[owner] = above
        touches = comparison(above, below)
        for kind, languages in above.kinds.items():
            for language in languages:
                if touches(kind, language):
                    for sample in _SAMPLES:
                        at.mail(kind, language, sample)
                        yield
                yield
