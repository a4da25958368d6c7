"""`mailroom preview`: renders mails with sample payloads, to files or on a local page."""

import contextlib
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailroom.cli.check_command import bar
from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_json, say
from mailroom.config import template_sources
from mailroom.errors import RenderingError
from mailroom.rendering.inventory import Owner

if TYPE_CHECKING:
    from starlette.applications import Starlette


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]…")
@click.option("--locale", "locales", multiple=True, metavar="TAG", help="A language; may be repeated.  [default: all]")
@click.option(
    "--sample",
    type=click.Choice(["full", "minimal", "null", "hostile"]),
    default="full",
    show_default=True,
    help="Payload: complete, minimal, with nulls, or an attacker's.",
)
@click.option("--for", "folder", metavar="OWNER", help="Templates of this owner: applications/ID or organizations/ID.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("previews"),
    show_default=True,
    help="Folder for the files.",
)
@click.option("--open", "opens", is_flag=True, help="Open a local page with pickers instead of writing files.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the local page.  [default: a free one]")
@as_json
@click.pass_obj
def preview(
    desk: CliContext,
    kinds: tuple[str, ...],
    locales: tuple[str, ...],
    sample: str,
    out: Path,
    *,
    folder: str | None,
    opens: bool,
    port: int,
    as_json: bool,
) -> None:
    """Show the mails of these kinds (SignIn, Welcome …; all, if none is named) with sample payloads."""
    from mailroom.lint.rules.rendered import LintContext as WritingDesk  # noqa: PLC0415 - parsers, for few commands
    from mailroom.lint.samples import Sample  # noqa: PLC0415 - likewise
    from mailroom.preview.preview_files import write  # noqa: PLC0415 - likewise

    settings = desk.settings()
    try:
        writer = template_sources.writer(settings)
    except RenderingError as error:
        raise click.ClickException(str(error)) from error
    owner = _owner(folder, writer.owners) if folder else None
    writing = WritingDesk(writer, settings.sender, settings.reply_to, template_sources.sender_domains(settings), owner)
    kinds_of = writing.inventory.kinds
    chosen = Sample(sample)
    wanted = [
        (kind, tag, chosen)
        for kind in _select(kinds, kinds_of, "kind")
        for tag in kinds_of[kind]
        if not locales or tag in locales
    ]
    _select(locales, {tag for tags in kinds_of.values() for tag in tags}, "language")
    if not wanted:
        raise click.ClickException("none of these kinds exists in these languages")
    if opens:
        kind, tag, _ = next((one for one in wanted if one[1] == settings.default_locale), wanted[0])
        from handlers.console.preview import Preview  # noqa: PLC0415 - likewise

        serve(Preview(writing, kind=kind, language=tag, sample=chosen).app(), port, _announce)
        return
    with bar(len(wanted)) as progress:
        rows = write(writing, out, wanted, progress=progress)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        say(f"{len(rows)} mails: {out / 'index.html'}")
    if any(not row.name for row in rows):
        raise click.ClickException("some could not be rendered; the index says why")


def _select(named: tuple[str, ...], known: Any, what: str) -> list[str]:
    """Return the named items, or all known ones; raise UsageError for an unknown one."""
    for name in named:
        if name not in known:
            raise click.UsageError(f"there is no {what} {name!r}; there are {', '.join(sorted(known)) or 'none'}")
    return list(named or known)


def _owner(folder: str, owners: tuple[Owner, ...]) -> Owner:
    by_folder = {owner.folder: owner for owner in owners}
    _select((folder,), by_folder, "folder")
    return by_folder[folder]


def _announce(port: int) -> None:
    address = f"http://localhost:{port}/"
    say(f"The preview is at {address}; Ctrl-C ends it.")
    webbrowser.open(address)


def serve(app: "Starlette", port: int, opened: Callable[[int], None]) -> None:
    """Serve on loopback until Ctrl-C; `opened` is called with the port once connections are accepted."""
    import uvicorn  # noqa: PLC0415 - for this command only

    with socket.create_server(("127.0.0.1", port)) as listening, contextlib.suppress(KeyboardInterrupt):
        opened(listening.getsockname()[1])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
        uvicorn.Server(config).run([listening])
