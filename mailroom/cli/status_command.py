"""`mailroom status`: whether the server answers, and how many messages wait or are held."""

import asyncio
import time

import click
import httpx

from mailroom.cli.context import CliContext, as_json, server_url
from mailroom.cli.output import print_json, print_line, print_table, short_duration
from mailroom.config.model import Settings
from mailroom.message import Priority
from mailroom.outbox import Depth


@click.command()
@as_json
@click.pass_obj
def status(cli: CliContext, *, as_json: bool) -> None:
    """Show whether the server answers, and how many messages wait or are held for an operator."""
    asyncio.run(_status(cli, cli.settings(), as_json=as_json))


async def _status(cli: CliContext, settings: Settings, *, as_json: bool) -> None:
    async with cli.outbox(settings) as outbox:
        depth, held = await outbox.depth(), await outbox.held()
    server = await _query_server(settings)
    waiting = {priority.name.lower(): depth.get(priority, Depth(0, None)) for priority in Priority}
    now = time.time()
    ages = {name: None if at.oldest is None else round(max(0.0, now - at.oldest), 1) for name, at in waiting.items()}
    if as_json:
        rows = {name: {"messages": at.count, "oldest_seconds": ages[name]} for name, at in waiting.items()}
        print_json({"server": server, "waiting": rows, "held": held})
        return
    print_line(f"server: {server}")
    print_table(
        ("waiting", "messages", "oldest"),
        [(name, str(at.count), short_duration(ages[name])) for name, at in waiting.items()],
    )
    if held:
        print_table(("held", "messages"), [(reason, str(count)) for reason, count in held.items()])


async def _query_server(settings: Settings) -> str:
    try:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            response = await client.get(f"{server_url(settings)}/readyz")
    except httpx.HTTPError:
        return "not reachable"
    return "ready" if response.is_success else "starting or draining"
