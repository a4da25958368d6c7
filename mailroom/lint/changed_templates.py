"""Renders the mails that an operator's templates change, so that faults are logged before a mail needs them.

Runs on the server's event loop, a few milliseconds at a time. The tests cover the bundled templates; `mailroom check`
applies the other rules to an operator's templates.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeAlias

import structlog

from mailroom.clock import Clock
from mailroom.lint.changed_mails import find_changed_mails
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from mailroom.rendering.inventory import Inventory
from mailroom.rendering.overlay import Owner

Checked: TypeAlias = dict[Owner | None, Inventory]
"""Owner (None: all mails without one) -> inventory when it was checked."""

_SLICE_SECONDS: Final = 0.001
"""Maximum work between two pauses. One rendering takes 0.5 ms."""
_PAUSE_FACTOR: Final = 3.0
"""Pause per second of work. 200 mails (after a change of a layout) then take half a second."""
_RETRY_SECONDS: Final = 60.0

log = structlog.get_logger()


async def watch_templates(context: LintContext, clock: Clock) -> None:
    """Check the overlay now and after each change of a file, until cancelled."""
    checked: Checked = {}
    while True:
        try:
            await check_changed_templates(context, checked, clock)
            await context.renderer.wait_for_change(clock)
        except Exception:
            log.exception("templates.check_failed", remedy="run `mailroom check`")
            await clock.sleep(_RETRY_SECONDS)


async def check_changed_templates(context: LintContext, checked: Checked, clock: Clock) -> None:
    """Render each mail that the overlay changes, except those in `checked`, and update `checked`.

    Renders each kind with a full payload in each language, and with null values once per template. The renderer logs
    failures as `template.faulty` and uses the layer below.
    """
    started = clock.monotonic()
    for _ in _render_changed(context, checked):
        worked = clock.monotonic() - started
        if worked >= _SLICE_SECONDS:
            await clock.sleep(worked * _PAUSE_FACTOR)
            started = clock.monotonic()


def _render_changed(context: LintContext, checked: Checked) -> Iterator[None]:
    """Yield after each rendering, and after each combination that needs none."""
    common = context.inventory
    for owner in (None, *context.renderer.owners):
        owner_context = replace(context, owner=owner)
        above = owner_context.inventory
        below = common if owner else common.below
        if below is None or above.is_same(checked.get(owner)):
            continue
        checked[owner] = above
        rendered: set[tuple[str, tuple[str, ...]]] = set()
        for kind, language, mail_sources in find_changed_mails(above, below):
            if mail_sources:
                owner_context.render(kind, language, Sample.FULL)
                yield
                if (kind, mail_sources.templates) not in rendered:
                    rendered.add((kind, mail_sources.templates))
                    owner_context.render(kind, language, Sample.NULL)
            yield
