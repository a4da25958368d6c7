"""`mailroom status`: whether the server answers, and how many messages wait or are held."""

import asyncio
import time
from collections.abc import Mapping

import click
import httpx

from mailroom.cli.context import CliContext, as_json, server_url
from mailroom.cli.outbox_access import looking
from mailroom.cli.output import print_json, print_table, say, span
from mailroom.config.model import Settings
from mailroom.message import Priority
from mailroom.outbox import Depth


@click.command()
@as_json
@click.pass_obj
def status(desk: CliContext, *, as_json: bool) -> None:
    """Show whether the server answers, and how many messages wait or are held for an operator."""
    settings = desk.settings()
    asyncio.run(_status(desk, settings, as_json=as_json))


async def _status(desk: CliContext, settings: Settings, *, as_json: bool) -> None:
    async with looking(desk.open, settings) as outbox:
        depth, held = await outbox.depth(), await outbox.held()
    server = await _query_server(settings)
    waiting = _count_waiting(depth)
    if as_json:
        print_json({"server": server, "waiting": waiting, "held": held})
        return
    say(f"server: {server}")
    print_table(
        ("waiting", "messages", "oldest"),
        [(name, str(row["messages"]), _age(row["oldest_seconds"])) for name, row in waiting.items()],
    )
    if held:
        print_table(("held", "messages"), [(reason, str(count)) for reason, count in held.items()])


def _count_waiting(depth: Mapping[Priority, Depth]) -> dict[str, dict[str, float | None]]:
    nothing, now = Depth(0, None), time.time()
    return {
        priority.name.lower(): {
            "messages": at.count,
            "oldest_seconds": None if at.oldest is None else round(max(0.0, now - at.oldest), 1),
        }
        for priority in Priority
        for at in (depth.get(priority, nothing),)
    }


def _age(seconds: float | None) -> str:
    return "" if seconds is None else span(seconds)


async def _query_server(settings: Settings) -> str:
    try:
        async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
            response = await client.get(f"{server_url(settings)}/readyz")
    except httpx.HTTPError:
        return "not reachable"
    return "ready" if response.is_success else "starting or draining"
