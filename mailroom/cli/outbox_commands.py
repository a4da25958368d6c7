"""`mailroom outbox list|find|show`: inspects messages and their attempts."""

import asyncio
from collections.abc import Sequence

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.outbox_access import looking
from mailroom.cli.output import moment, print_json, print_table, record_as_json, shown
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
def list_(desk: CliContext, *, state: str | None, limit: int, before: str | None, as_json: bool) -> None:
    """List messages, newest first."""
    records = asyncio.run(_find(desk, state=state, before=before, limit=limit))
    _print(records, as_json=as_json)


@outbox.command()
@click.argument("address")
@_state
@_limit
@_before
@as_json
@click.pass_obj
def find(desk: CliContext, *, address: str, state: str | None, limit: int, before: str | None, as_json: bool) -> None:
    """List the messages to ADDRESS, newest first; exits with 1 if there are none."""
    records = asyncio.run(_find(desk, recipient=address, state=state, before=before, limit=limit))
    _print(records, as_json=as_json)
    if not records:
        raise click.exceptions.Exit(1)


@outbox.command()
@click.argument("id")
@as_json
@click.pass_obj
def show(desk: CliContext, *, id: str, as_json: bool) -> None:  # noqa: A002 - the field's word
    """Show one message and its attempts; exits with 1 if there is no such message."""
    record = asyncio.run(_get(desk, id))
    if record is None:
        raise click.ClickException("There is no such message; metadata is deleted after `retention`.")
    if as_json:
        print_json(record_as_json(record))
        return
    facts = record_as_json(record)
    attempts = facts.pop("attempts")
    payload = facts.pop("payload")
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


async def _find(
    desk: CliContext, *, recipient: str | None = None, state: str | None, before: str | None, limit: int
) -> list[Record]:
    async with looking(desk.open, desk.settings()) as reader:
        wanted = State(state) if state else None
        return await reader.find(recipient=recipient, state=wanted, before=before, limit=limit)


async def _get(desk: CliContext, id: str) -> Record | None:  # noqa: A002 - the field's word
    async with looking(desk.open, desk.settings()) as reader:
        return await reader.get(id)


def _print(records: Sequence[Record], *, as_json: bool) -> None:
    if as_json:
        print_json([record_as_json(record) for record in records])
        return
    print_table(
        ("id", "accepted", "state", "template", "recipient", "tries", "reason"),
        [
            (
                record.id,
                moment(record.created_at) or "",
                shown(record.state),
                record.template,
                record.recipient,
                str(len(record.attempts)),
                record.reason,
            )
            for record in records
        ],
    )
