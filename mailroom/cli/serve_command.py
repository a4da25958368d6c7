"""`mailroom serve`: the same as `python server.py`."""

import os
import sys
from importlib.util import find_spec

import click

from mailroom.cli.context import CliContext


@click.command()
@click.option("--fd", type=click.IntRange(0), metavar="N", help="Listen on this inherited socket.")
@click.pass_obj
def serve(cli: CliContext, fd: int | None) -> None:
    """Serve until SIGTERM, as `python server.py` does; SIGHUP reloads."""
    server = find_spec("server")
    if server is None or server.origin is None:
        raise click.ClickException("server.py is not installed beside this command")
    arguments = [sys.executable, server.origin]
    if cli.dev:
        arguments.append("--dev")
    if cli.config is not None:
        arguments += ["--config", str(cli.config)]
    if fd is not None:
        arguments += ["--fd", str(fd)]
    os.execv(sys.executable, arguments)  # noqa: S606 - the server takes this process over, its id and its signals
