"""`mailroom outbox retry|cancel|hold-all|prune`, `mailroom pause|resume`: change rows; servers notice within 1 s."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import iso_time, local_time, print_json, print_line, progress_bar
from mailroom.clock import Instant
from mailroom.config.durations import parse_duration
from mailroom.config.model import Settings
from mailroom.config.senders import routes
from mailroom.message import State
from mailroom.outbox.operator_outbox import OperatorOutbox, OperatorResult

_STEP: Final = 100
"""Rows a transaction: about 5 ms, so that a server does not wait long for its own."""
_PAUSE_SECONDS: Final = 0.05
"""Between two steps."""
_LISTED: Final = 3
"""How many ids of refused messages are listed for one reason."""

_UNSENT: Final = (State.QUEUED, State.SENDING, State.HELD)
"""What is held for a repaired configuration is released at the next start."""

_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _selection(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments that select messages."""
    options = (
        click.argument("ids", metavar="[ID]…", nargs=-1),
        click.option("--state", type=click.Choice(["held", "queued"]), help="With --all: messages in this state."),
        click.option("--all", "all_", is_flag=True, help="All messages in the state; shows their number and asks."),
        _yes,
        as_json,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_selection
@click.pass_obj
def retry(cli: CliContext, /, **selection: Any) -> None:
    """Try queued and held messages again now; servers notice within a second.

    Refuses messages that have expired, are being sent or are settled, and exits with 1 if there are any of them.
    """
    asyncio.run(_change(cli, "retried", lambda outbox: outbox.retry, **selection))


@click.command()
@_selection
@click.pass_obj
def cancel(cli: CliContext, /, **selection: Any) -> None:
    """End queued and held messages unsent; their content is erased.

    Refuses messages that are being sent, which cannot be recalled, or are settled, and exits with 1 if there are any
    of them.
    """
    asyncio.run(_change(cli, "cancelled", lambda outbox: outbox.cancel, **selection))


class _Step(Protocol):
    """Changes messages in one transaction."""

    def __call__(self, ids: Sequence[str], *, now: Instant) -> Awaitable[OperatorResult]: ...


async def _change(
    cli: CliContext,
    done: str,
    step_of: Callable[[OperatorOutbox], _Step],
    *,
    ids: tuple[str, ...],
    state: str | None,
    all_: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Change the selected messages in steps, and print what was `done` and what was refused."""
    if bool(ids) is all_ or bool(state) is not all_:
        raise click.UsageError("name messages by their ids, or select them by --state held --all (or queued)")
    async with cli.outbox(cli.settings()) as outbox:
        if state:
            chosen = await outbox.in_state(State(state))
            if chosen and not yes:
                click.confirm(f"{_count(len(chosen))} {state}, and will be {done}. Continue?", abort=True, err=True)
        else:
            chosen = list(dict.fromkeys([await outbox.resolve(id_) for id_ in ids]))
        result = await _change_in_steps(step_of(outbox), chosen)
        short_ids = await outbox.short_ids([*result.refused])
    _print_result(result, short_ids, done, as_json=as_json)


def _print_result(result: OperatorResult, short_ids: Mapping[str, str], done: str, *, as_json: bool) -> None:
    """Print what was `done`, and what was refused; exit with 1 if anything was."""
    if as_json:
        refused = [{"id": id_, "state": was, "reason": _refusal(was, done)} for id_, was in result.refused.items()]
        print_json({done: result.changed, "refused": refused})
    else:
        print_line(f"{_count(len(result.changed))} {done}.")
        _print_refused(result.refused, short_ids, done)
    if result.refused:
        raise click.exceptions.Exit(1)


async def _change_in_steps(step: _Step, ids: Sequence[str]) -> OperatorResult:
    changed: tuple[str, ...] = ()
    refused: dict[str, State] = {}
    with progress_bar(len(ids)) as advance:
        for start in range(0, len(ids), _STEP):
            if start:
                await asyncio.sleep(_PAUSE_SECONDS)
            part = ids[start : start + _STEP]
            result = await step(part, now=time.time())
            changed += result.changed
            refused |= result.refused
            advance(len(part))
    return OperatorResult(changed, refused)


def _print_refused(refused: Mapping[str, State], short_ids: Mapping[str, str], done: str) -> None:
    """Print, for each reason, which messages were refused."""
    by_reason: dict[str, list[str]] = {}
    for id_, state in refused.items():
        by_reason.setdefault(_refusal(state, done), []).append(short_ids[id_])
    for reason, ids in by_reason.items():
        more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
        print_line(f"Not {done}: {', '.join(ids[:_LISTED])}{more}: {reason}", style="yellow", wrap=True, error=True)


def _refusal(state: State, done: str) -> str:
    """Return why a message in this state cannot be changed."""
    if state is State.SENDING:
        return "it is being sent at this moment, and cannot be recalled"
    if not state.settled:
        return "it has expired: its lifetime is over"
    return f"it is settled ({state}): only queued and held messages can be {done}"


def _count(messages: int) -> str:
    return "1 message is" if messages == 1 else f"{messages:,} messages are"


@click.command("hold-all")
@_yes
@as_json
@click.pass_obj
def hold_all(cli: CliContext, *, yes: bool, as_json: bool) -> None:
    """Hold all messages that are not sent yet, until `mailroom outbox retry`; shows their number and asks.

    For an outbox that was restored from a backup, before a server starts: they may have been sent since. Messages that
    a running server is sending are refused.
    """
    asyncio.run(_hold_all(cli, yes=yes, as_json=as_json))


async def _hold_all(cli: CliContext, *, yes: bool, as_json: bool) -> None:
    async with cli.outbox(cli.settings()) as outbox:
        chosen = [id_ for state in _UNSENT for id_ in await outbox.in_state(state)]
        if chosen and not yes:
            click.confirm(f"{_count(len(chosen))} not sent yet, and will be held. Continue?", abort=True, err=True)
        result = await _change_in_steps(outbox.hold, chosen)
        short_ids = await outbox.short_ids([*result.refused])
    _print_result(result, short_ids, "held", as_json=as_json)


def _age(text: str) -> timedelta:
    try:
        age: timedelta = parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return age


@click.command()
@click.option("--before", "age", type=_age, required=True, metavar="AGE", help="Accepted longer ago: 30d, 12h.")
@_yes
@as_json
@click.pass_obj
def prune(cli: CliContext, *, age: timedelta, yes: bool, as_json: bool) -> None:
    """Delete the records of settled messages; shows their number and asks.

    Servers do the same by themselves once a record is older than `retention`.
    """
    asyncio.run(_prune(cli, time.time() - age.total_seconds(), yes=yes, as_json=as_json))


async def _prune(cli: CliContext, before: Instant, *, yes: bool, as_json: bool) -> None:
    deleted = 0
    async with cli.outbox(cli.settings()) as outbox:
        count = await outbox.count_settled(before=before)
        if count and not yes:
            click.confirm(f"{_count(count)} settled and older, and will be deleted. Continue?", abort=True, err=True)
        with progress_bar(count) as advance:
            while step := await outbox.prune(before=before, limit=_STEP):
                deleted += step
                advance(step)
                await asyncio.sleep(_PAUSE_SECONDS)
    if as_json:
        print_json({"deleted": deleted})
    else:
        print_line(f"{_count(deleted)} deleted.")


@click.command()
@click.argument("provider")
@as_json
@click.pass_obj
def pause(cli: CliContext, *, provider: str, as_json: bool) -> None:
    """Send nothing by PROVIDER until `mailroom resume PROVIDER`, not even after a restart.

    Servers notice within a second. Mail that is being sent is not interrupted. Other mail goes to the other providers
    of its route; without one it waits in the outbox.
    """
    settings, changed, paused = asyncio.run(_change_provider(cli, provider, pauses=True))
    if as_json:
        print_json(_provider_as_json(provider, paused, changed=changed))
        return
    if changed:
        print_line(f"{provider} is paused; servers notice within a second.")
    else:
        print_line(f"{provider} was paused already, at {local_time(paused[provider])}.")
    named = {f"override for {one.when}": one.providers for one in settings.overrides if one.providers}
    if stopped := [route for route, names in (*routes(settings).items(), *named.items()) if set(names) <= set(paused)]:
        print_line(
            f"Warning: all providers of some routes are paused: {', '.join(stopped)}. Mails wait there; codes expire.",
            style="yellow",
            wrap=True,
        )


@click.command()
@click.argument("provider")
@as_json
@click.pass_obj
def resume(cli: CliContext, *, provider: str, as_json: bool) -> None:
    """Send by PROVIDER again, after `mailroom pause PROVIDER`; servers notice within a second."""
    _, changed, paused = asyncio.run(_change_provider(cli, provider, pauses=False))
    if as_json:
        print_json(_provider_as_json(provider, paused, changed=changed))
    elif changed:
        print_line(f"{provider} is in use again; servers notice within a second.")
    else:
        print_line(f"{provider} was not paused.")


async def _change_provider(
    cli: CliContext, provider: str, *, pauses: bool
) -> tuple[Settings, bool, Mapping[str, Instant]]:
    """Pause or resume a provider; return the settings, whether anything was changed, and what is paused now.

    One that was paused and is not in the settings any more can still be resumed.
    """
    settings = cli.settings()
    async with cli.outbox(settings) as outbox:
        if provider not in {*settings.providers, *await outbox.paused()}:
            raise click.BadParameter(f"there is no provider {provider!r}; there are: {', '.join(settings.providers)}")
        change = outbox.pause(provider, now=time.time()) if pauses else outbox.resume(provider)
        return settings, await change, await outbox.paused()


def _provider_as_json(provider: str, paused: Mapping[str, Instant], *, changed: bool) -> dict[str, Any]:
    return {
        "provider": provider,
        "changed": changed,
        "paused": {name: iso_time(since) for name, since in paused.items()},
    }
