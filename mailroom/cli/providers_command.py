"""`mailroom providers`: the types of providers with their settings, and the state of the configured ones."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import iso_time, print_block, print_json, print_line, print_table, short_duration
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
    try:
        states, trouble = asyncio.run(_read_states(cli, cli.load()))
    except SettingsError:
        states, trouble = [], "the settings have faults"
    types = provider_types()
    if as_json:
        configured = [_state_as_json(state) for state in states]
        print_json({"types": list(map(_type_as_json, types)), "configured": configured, "trouble": trouble})
        return
    rows = [(provider.type, provider.description, ", ".join(provider.needs)) for provider in types]
    print_table(("type", "what it is", "needs"), rows)
    print_line()
    if states:
        _print_states(states, trouble)
    else:
        print_line("The configured providers are not known: the settings have faults, see `mailroom check`.")


def _print_type(type_name: str, *, as_json: bool) -> None:
    try:
        provider = provider_type(type_name)
    except LookupError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        print_json(_type_as_json(provider))
        return
    print_line(provider.description)
    print_line()
    print_table(
        ("setting", "value", "default", ""),
        [
            (row.name, row.value.replace("`", ""), "required" if row.required else row.default or "", row.description)
            for row in provider.settings
        ],
    )
    print_line()
    print_block(provider.example())


def _type_as_json(provider: ProviderType) -> dict[str, Any]:
    return asdict(provider) | {"example": provider.example()}


@dataclass(frozen=True, slots=True)
class _ProviderState:
    """A configured provider and its attempts."""

    name: str
    type: str
    last_hour: Mapping[str, int]
    """Outcome → number of attempts."""
    last: AttemptSummary | None
    """The last attempt of the day that ended."""


async def _read_states(cli: CliContext, settings: Settings) -> tuple[list[_ProviderState], str | None]:
    """Return the state of each configured provider, and why the attempts could not be read if so."""
    now, trouble = time.time(), None
    hour: Sequence[AttemptSummary] = ()
    day: Sequence[AttemptSummary] = ()
    try:
        async with cli.outbox(settings) as outbox:
            hour = await outbox.tried(since=now - _HOUR, accepted=now - _DAY)
            day = await outbox.tried(since=now - _DAY, accepted=now - _DAY)
    except click.ClickException as error:
        trouble = error.message
    states = []
    for name, provider in settings.providers.items():
        counts = {row.outcome or _UNFINISHED: row.count for row in hour if row.provider == name}
        ended = [row for row in day if row.provider == name and row.outcome is not None]
        last = max(ended, key=lambda row: row.last_at, default=None)
        states.append(_ProviderState(name, provider.type, counts, last))
    return states, trouble


def _state_as_json(state: _ProviderState) -> dict[str, Any]:
    last = state.last and {
        "outcome": state.last.outcome,
        "started_at": iso_time(state.last.last_at),
        "diagnostic": state.last.diagnostic,
    }
    return {"name": state.name, "type": state.type, "last_hour": state.last_hour, "last": last}


def _print_states(states: list[_ProviderState], trouble: str | None) -> None:
    now = time.time()
    rows = []
    for state in states:
        hour = ", ".join(f"{count} {outcome}" for outcome, count in state.last_hour.items()) or "nothing"
        last = state.last
        ago = f"{last.outcome} {short_duration(now - last.last_at)} ago: {last.diagnostic}" if last else "not known"
        rows.append((state.name, state.type, hour, ago))
    print_table(("configured", "type", "attempts of the last hour", "last outcome"), rows)
    if trouble:
        print_line(f"Their state is not known: {trouble}")
