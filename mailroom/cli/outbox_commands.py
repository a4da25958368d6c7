"""`mailroom outbox`: inspects messages and their attempts, and changes them."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.operator_commands import cancel, hold_all, prune, retry
from mailroom.cli.output import (
    local_time,
    print_json,
    print_line,
    print_table,
    progress_bar,
    record_as_json,
    styled_state,
)
from mailroom.clock import Instant, SystemClock
from mailroom.config.model import Settings
from mailroom.message import State
from mailroom.outbox import Record
from mailroom.outbox.by_url import is_postgres, place_of, require_asyncpg, sqlite_path
from mailroom.outbox.deferred import WAIT_SECONDS

if TYPE_CHECKING:
    from mailroom.outbox.copying import Copied

_limit = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of messages."
)
_state = click.option(
    "--state", type=click.Choice([state.value for state in State]), help="Only messages in this state."
)
_before = click.option("--before", metavar="ID", help="Only messages older than this one: the next page.")


@click.group()
def outbox() -> None:
    """Inspect and change messages, also while servers run; codes, links and bodies are never shown.

    An ID may be shortened as long as no other begins so; the lists show such short ones.
    """


for command in (retry, cancel, hold_all, prune):
    outbox.add_command(command)


@outbox.command("list")
@_state
@_limit
@_before
@as_json
@click.pass_obj
def list_(cli: CliContext, /, *, as_json: bool, **criteria: Any) -> None:
    """List messages, newest first."""
    _print_found(cli, as_json=as_json, **criteria)


@outbox.command()
@click.argument("recipient", metavar="ADDRESS")
@_state
@_limit
@_before
@as_json
@click.pass_obj
def find(cli: CliContext, /, *, as_json: bool, **criteria: Any) -> None:
    """List the messages to ADDRESS, newest first; exits with 1 if there are none."""
    if not _print_found(cli, as_json=as_json, **criteria):
        raise click.exceptions.Exit(1)


@outbox.command()
@click.argument("id")
@as_json
@click.pass_obj
def show(cli: CliContext, *, id: str, as_json: bool) -> None:  # noqa: A002 - the field's word
    """Show one message and its attempts; exits with 1 if there is no such message."""

    async def get() -> tuple[Record | None, Mapping[str, Instant]]:
        async with cli.outbox(cli.settings()) as outbox:
            return await outbox.get(await outbox.resolve(id)), await outbox.paused()

    record, paused = asyncio.run(get())
    if record is None:
        raise click.ClickException("the message was deleted a moment ago")
    facts = record_as_json(record)
    if as_json:
        print_json(facts)
        return
    attempts, payload = facts.pop("attempts"), facts.pop("payload")
    facts["languages"] = ", ".join(record.languages)
    print_table(("", ""), [(name, str(value)) for name, value in facts.items() if value])
    if attempts:
        print_table(
            ("attempt", "provider", "outcome", "seconds", "diagnostic"),
            [
                (
                    attempt["started_at"],
                    attempt["provider"],
                    attempt["outcome"] or "interrupted, or still running",
                    f"{attempt['duration_seconds'] or 0:.3f}",
                    attempt["diagnostic"],
                )
                for attempt in attempts
            ],
        )
    print_json({"payload": payload})
    _print_paused(paused)


@outbox.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@as_json
@click.pass_obj
def backup(cli: CliContext, *, file: Path, force: bool, as_json: bool) -> None:
    """Copy the outbox to FILE, also while a server uses it.

    FILE is complete as soon as it exists. Nothing in it can be read without secret_key: keep that elsewhere.
    """
    if file.exists() and not force:
        raise click.ClickException(f"{file} exists: --force replaces it")

    target = file.absolute()

    async def write() -> None:
        async with cli.outbox(cli.settings()) as outbox:
            with progress_bar(100, "Backup") as advance:
                await outbox.backup(target, advance)

    asyncio.run(write())
    size = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "bytes": size})
    else:
        print_line(f"{size:,} bytes are written to {file}.")


@outbox.command()
@click.option("--to", "target", metavar="URL", help="The PostgreSQL database.  [default: database_url]")
@click.option("--from", "source", metavar="URL", help="The SQLite file: sqlite:///…  [default: database_url]")
@as_json
@click.pass_obj
def copy(cli: CliContext, *, target: str | None, source: str | None, as_json: bool) -> None:
    """Copy an outbox from SQLite to PostgreSQL: what waits, then what was handled once, then the history.

    May be interrupted and repeated; what is copied already is skipped. While a server uses the SQLite file, messages
    that wait in it are left for a later run. Those that are copied are held in the file.
    """
    settings = cli.settings()
    source, target = source or settings.database_url, target or settings.database_url
    if is_postgres(source) or not is_postgres(target):
        raise click.UsageError("copies from sqlite:///… to postgresql://…: name the one that is not database_url")
    copied = asyncio.run(_copy(settings, source, target))
    if as_json:
        print_json(asdict(copied) | {"from": place_of(source), "to": place_of(target)})
        return
    print_line(
        f"{copied.unsettled:,} messages that wait, {copied.events:,} events and {copied.settled:,} settled messages "
        f"are copied to {place_of(target)}."
    )
    if copied.left:
        print_line(
            f"A server uses {place_of(source)}: {copied.left:,} messages that wait there are not copied. When it "
            f"serves from the new database_url, run this again with --from {source}",
            style="yellow",
            wrap=True,
        )


async def _copy(settings: Settings, source: str, target: str) -> "Copied":
    """Copy; a server that has the new settings releases the file soon."""
    require_asyncpg()
    from mailroom.outbox.copying import Copying  # noqa: PLC0415 - needs asyncpg

    keys = [key.get_secret_value() for key in settings.secret_key]
    wait_seconds = 0.0 if source == settings.database_url else WAIT_SECONDS
    opened = Copying.open(sqlite_path(source), target, secret_keys=keys, clock=SystemClock(), wait_seconds=wait_seconds)
    async with opened as copying:
        with progress_bar(copying.total, "Rows") as advance:
            return await copying.run(advance)


def _print_found(cli: CliContext, *, as_json: bool, state: str | None, before: str | None, **criteria: Any) -> bool:
    """Print the records that match; return whether there are any."""

    async def find_records() -> tuple[list[Record], Mapping[str, str], Mapping[str, Instant]]:
        async with cli.outbox(cli.settings()) as outbox:
            last = await outbox.resolve(before) if before else None
            records = await outbox.find(state=State(state) if state else None, before=last, **criteria)
            return records, await outbox.short_ids([record.id for record in records]), await outbox.paused()

    records, short_ids, paused = asyncio.run(find_records())
    if as_json:
        print_json([record_as_json(record) for record in records])
    else:
        print_table(
            ("id", "accepted", "state", "tries", "message"),
            [
                (
                    short_ids[record.id],
                    local_time(record.created_at),
                    styled_state(record.state),
                    str(len(record.attempts)),
                    f"{record.template} to {record.recipient}{record.reason and f': {record.reason}'}",
                )
                for record in records
            ],
        )
        if len(records) == criteria["limit"]:
            print_line(f"There may be older ones: --before {short_ids[records[-1].id]}", style="dim")
        _print_paused(paused)
    return bool(records)


def _print_paused(paused: Mapping[str, Instant]) -> None:
    for provider, since in paused.items():
        print_line(f"{provider} is paused since {local_time(since)}", style="yellow")
