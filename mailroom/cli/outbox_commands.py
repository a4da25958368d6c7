"""`mailroom outbox list|find|show`: inspects messages and their attempts."""

import asyncio
from typing import Any

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import iso_time, print_json, print_table, record_as_json, styled_state
from mailroom.message import State
from mailroom.outbox import Record

_limit = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Maximum number of messages."
)
_state = click.option(
    "--state", type=click.Choice([state.value for state in State]), help="Only messages in this state."
)
_before = click.option("--before", metavar="ID", help="Only messages older than this one: the next page.")


@click.group()
def outbox() -> None:
    """Inspect messages, also while the server runs; codes, links and bodies are never shown."""


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

    async def get() -> Record | None:
        async with cli.outbox(cli.settings()) as reader:
            return await reader.get(id)

    record = asyncio.run(get())
    if record is None:
        raise click.ClickException("There is no such message; metadata is deleted after `retention`.")
    facts = record_as_json(record)
    if as_json:
        print_json(facts)
        return
    attempts, payload = facts.pop("attempts"), facts.pop("payload")
    facts["languages"] = ", ".join(record.languages)
    print_table(("", ""), [(name, str(value)) for name, value in facts.items() if value])
    if attempts:
        print_table(
            ("attempt", "provider", "outcome", "seconds", "words"),
            [
                (
                    attempt["started_at"],
                    attempt["provider"],
                    attempt["outcome"] or "interrupted, or still running",
                    f"{attempt['duration_seconds'] or 0:.3f}",
                    attempt["words"],
                )
                for attempt in attempts
            ],
        )
    print_json({"payload": payload})


def _print_found(cli: CliContext, *, as_json: bool, state: str | None, **criteria: Any) -> bool:
    """Print the records that match; return whether there are any."""

    async def find_records() -> list[Record]:
        async with cli.outbox(cli.settings()) as reader:
            return await reader.find(state=State(state) if state else None, **criteria)

    records = asyncio.run(find_records())
    if as_json:
        print_json([record_as_json(record) for record in records])
    else:
        print_table(
            ("id", "accepted", "state", "template", "recipient", "tries", "reason"),
            [
                (
                    record.id,
                    iso_time(record.created_at) or "",
                    styled_state(record.state),
                    record.template,
                    record.recipient,
                    str(len(record.attempts)),
                    record.reason,
                )
                for record in records
            ],
        )
    return bool(records)
