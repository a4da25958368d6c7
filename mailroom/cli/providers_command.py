"""`mailroom providers`: the types of providers with their settings, and the state of the configured ones."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import iso_time, print_block, print_json, print_line, print_table, short_duration
from mailroom.config import load
from mailroom.config.model import Settings
from mailroom.config.provider_types import ProviderType, provider_type, provider_types
from mailroom.errors import SettingsError
from mailroom.outbox import AttemptSummary

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_UNFINISHED: Final = "unfinished"
"""Attempts without an outcome: still running, or interrupted."""


@click.command()
@click.argument("type_name", metavar="[TYPE]", required=False)
@as_json
@click.pass_obj
def providers(cli: CliContext, *, type_name: str | None, as_json: bool) -> None:
    """List the types of providers and the state of the configured ones; with TYPE: all its settings, to copy.

    The state is computed from attempts of messages accepted within a day, and of older ones that are not settled.
    It is unknown after a start, and when nothing was sent.
    """
    if type_name is not None:
        _print_type(type_name, as_json=as_json)
        return
    settings = _settings(cli)
    attempts = asyncio.run(_read_attempts(cli, settings))
    types = provider_types()
    if as_json:
        print_json(
            {
                "types": [_type_as_json(found) for found in types],
                "configured": _configured_as_json(settings, attempts) if settings else [],
                "trouble": attempts.trouble or None,
            }
        )
        return
    rows = [(found.type, found.description, ", ".join(found.needs)) for found in types]
    print_table(("type", "what it is", "needs"), rows)
    print_line()
    if settings is None:
        print_line("The configured providers are not known: the settings have faults, see `mailroom check`.")
        return
    _print_configured(settings, attempts)


def _print_type(type_name: str, *, as_json: bool) -> None:
    try:
        found = provider_type(type_name)
    except LookupError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json(_type_as_json(found))
        return
    print_line(found.description)
    print_line()
    print_table(
        ("setting", "value", "default", ""),
        [
            (row.name, row.value.replace("`", ""), "required" if row.required else row.default or "", row.description)
            for row in found.settings
        ],
    )
    print_line()
    print_block(found.example())


def _type_as_json(found: ProviderType) -> dict[str, Any]:
    return {
        "type": found.type,
        "description": found.description,
        "settings": found.settings,
        "example": found.example(),
    }


def _settings(cli: CliContext) -> Settings | None:
    try:
        return load(environ=os.environ, config=cli.config, dev=cli.dev)
    except SettingsError:
        return None


@dataclass(frozen=True, slots=True)
class _Attempts:
    """Attempts by provider and outcome; `trouble` is why they could not be read."""

    hour: Sequence[AttemptSummary] = ()
    day: Sequence[AttemptSummary] = ()
    trouble: str = ""

    def health(self, name: str) -> tuple[dict[str, int], AttemptSummary | None]:
        """Return a provider's counts of the last hour by outcome, and the last attempt of the day that ended."""
        counts = {row.outcome or _UNFINISHED: row.count for row in self.hour if row.provider == name}
        ended = [row for row in self.day if row.provider == name and row.outcome is not None]
        return counts, max(ended, key=lambda row: row.last_at, default=None)


async def _read_attempts(cli: CliContext, settings: Settings | None) -> _Attempts:
    if settings is None:
        return _Attempts(trouble="the settings have faults")
    now = time.time()
    try:
        async with cli.outbox(settings) as outbox:
            hour = await outbox.tried(since=now - _HOUR, accepted=now - _DAY)
            day = await outbox.tried(since=now - _DAY, accepted=now - _DAY)
    except click.ClickException as error:
        return _Attempts(trouble=error.message)
    return _Attempts(hour, day)


def _configured_as_json(settings: Settings, attempts: _Attempts) -> list[dict[str, Any]]:
    rows = []
    for name, provider in settings.providers.items():
        counts, last = attempts.health(name)
        description = last and {"outcome": last.outcome, "started_at": iso_time(last.last_at), "words": last.words}
        rows.append({"name": name, "type": provider.type, "last_hour": counts, "last": description})
    return rows


def _print_configured(settings: Settings, attempts: _Attempts) -> None:
    now = time.time()
    rows = []
    for name, provider in settings.providers.items():
        counts, last = attempts.health(name)
        hour = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing"
        ago = f"{last.outcome} {short_duration(now - last.last_at)} ago: {last.words}" if last else "not known"
        rows.append((name, provider.type, hour, ago))
    print_table(("configured", "type", "attempts of the last hour", "last outcome"), rows)
    if attempts.trouble:
        print_line(f"Their state is not known: {attempts.trouble}")
