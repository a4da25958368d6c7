"""`mailroom preview`: renders mails with sample payloads, to files or on a local page."""

import contextlib
import os
import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.output import print_json, print_line, progress_bar
from mailroom.clock import SystemClock
from mailroom.config import template_sources

if TYPE_CHECKING:
    from starlette.applications import Starlette


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]…")
@click.option("--locale", "locales", multiple=True, metavar="TAG", help="A language; may be repeated.  [default: all]")
@click.option(
    "--sample",
    type=click.Choice(["full", "minimal", "null", "hostile"]),
    help="Payload: complete, minimal, with nulls, or an attacker's.  [default: full; with --open as in most mails]",
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
    cli: CliContext,
    kinds: tuple[str, ...],
    locales: tuple[str, ...],
    sample: str | None,
    out: Path,
    *,
    folder: str | None,
    opens: bool,
    port: int,
    as_json: bool,
) -> None:
    """Show the mails of these kinds (SignIn, Welcome …; all, if none is named) with sample payloads."""
    from mailroom.lint.rules.rendered import LintContext  # noqa: PLC0415 - parsers, for few commands
    from mailroom.lint.samples import Sample  # noqa: PLC0415 - likewise
    from mailroom.preview.preview_files import write  # noqa: PLC0415 - likewise

    settings = cli.settings()
    renderer = template_sources.build_renderer(settings)
    owners = {owner.folder: owner for owner in renderer.owners}
    owner = owners[_select((folder,), owners, "folder")[0]] if folder else None
    domains = template_sources.sender_domains(settings)
    context = LintContext(renderer, settings.sender, settings.reply_to, domains, owner)
    kinds_of = context.inventory.kinds
    chosen = Sample(sample or Sample.FULL)
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
        from mailroom.cli.doctor_command import ServerSecrets  # noqa: PLC0415 - likewise
        from mailroom.preview.preview_send import PreviewSender  # noqa: PLC0415 - likewise

        secrets = ServerSecrets(cli, settings)
        sender = PreviewSender(
            settings.providers,
            clock=SystemClock(),
            entropy=os.urandom,
            secrets=secrets,
            overrides=settings.overrides,
        )
        selected = {"kind": kind, "language": tag, "sample": sample or ""}
        _serve(Preview(context, sender, refreshes=True, chosen=selected).app(), port)
        return
    with progress_bar(len(wanted)) as advance:
        rows = write(context, out, wanted, progress=advance)
    if as_json:
        print_json(rows)
    else:
        print_line(f"{len(rows)} mails: {out / 'index.html'}")
    if any(not row.name for row in rows):
        raise click.ClickException("some could not be rendered; the index says why")


def _select(named: tuple[str, ...], known: Any, what: str) -> list[str]:
    """Return the named items, or all known ones; raise UsageError for an unknown one."""
    for name in named:
        if name not in known:
            raise click.UsageError(f"there is no {what} {name!r}; there are {', '.join(sorted(known)) or 'none'}")
    return list(named or known)


def _announce(port: int) -> None:
    address = f"http://localhost:{port}/"
    print_line(f"The preview is at {address}; Ctrl-C ends it.")
    webbrowser.open(address)


def _serve(app: "Starlette", port: int) -> None:
    """Serve on loopback until Ctrl-C."""
    import uvicorn  # noqa: PLC0415 - for this command only

    with socket.create_server(("127.0.0.1", port)) as listening, contextlib.suppress(KeyboardInterrupt):
        _announce(listening.getsockname()[1])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False)
        uvicorn.Server(config).run([listening])
