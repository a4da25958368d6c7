"""`mailroom import`: imports Logto's email connector and templates."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from mailroom.cli.context import CliContext, as_json
from mailroom.cli.import_report import Report, print_report, report_as_json
from mailroom.cli.output import print_json
from mailroom.config import ENV_FILE, PROVIDER_NAME
from mailroom.config.sources import LOGTO_SECRET
from mailroom.errors import ImportingError
from mailroom.importing import make_plan, setting_files
from mailroom.importing.configuration import ExistingSettings, merge
from mailroom.importing.folder import place
from mailroom.importing.management_api import fetch
from mailroom.importing.plan import ImportLog
from mailroom.importing.recognize import LARGEST, decode

FOLDER: Final = "my-templates"
LEFT_OUT: Final = 3
"""The exit code if not everything was imported."""


def _provider_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not PROVIDER_NAME.fullmatch(value):
        raise click.BadParameter("small letters, digits, single - and _ between them")
    return value


@click.command("import")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(allow_dash=True))
@click.option("--from-logto", "url", metavar="URL", help="Read from the Logto at this address instead of files.")
@click.option("--app-id", help="The id of a machine-to-machine application of Logto's, for --from-logto.")
@click.option("--resource", help="Logto's Management API identifier.  [default: by the URL]")
@click.option(
    "--templates",
    metavar="FOLDER",
    help=f"Folder for the templates, from that of mailroom.toml.  [default: as in the settings, else {FOLDER}]",
)
@click.option("--provider", default="main", show_default=True, callback=_provider_name, help="The provider's name.")
@click.option(
    "--connector",
    type=click.Choice(["sendgrid", "mailjunky"]),
    help="Connector of a configuration that could be either's; not needed for rows of the Management API.",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the secrets.  [default: .env beside mailroom.toml, which Mailroom reads]",
)
@click.option("--force", is_flag=True, help="Overwrite template files that differ.")
@click.option("--dry-run", is_flag=True, help="Write nothing; print what would be written.")
@as_json
@click.pass_obj
def import_(
    cli: CliContext,
    *,
    files: Sequence[str],
    url: str | None,
    app_id: str | None,
    resource: str | None,
    templates: str | None,
    provider: str,
    connector: str | None,
    env_file: Path | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import Logto's email connector and templates from FILEs (- for standard input) or from a running Logto.

    A FILE holds a connector's JSON (SMTP, SendGrid, SES, Mailgun, Aliyun, Postmark, SMTP2GO, MailJunky), rows of the
    Management API's /api/connectors or /api/email-templates, or a list of those.

    Templates become files in the templates folder. Settings become mailroom.toml; if that exists, they are printed
    to be pasted. Secrets go to the environment file. Existing values that differ are not changed. Running it twice
    changes nothing.

    The secret for --from-logto is read from MAILROOM_LOGTO_APP_SECRET or from the file that
    MAILROOM_LOGTO_APP_SECRET_FILE names, or prompted for.

    Exits with 0 if everything was imported, with 3 if something was left out or has to be pasted, with 1 if it failed,
    with 2 on a usage error.
    """
    if bool(files) == bool(url):
        raise click.UsageError("Give FILEs, or the address of a Logto with --from-logto.")
    if url and not app_id:
        raise click.UsageError("--from-logto needs --app-id: a machine-to-machine application of Logto's.")
    documents = [(name, _read(name)) for name in files]
    if url and app_id:
        documents += fetch(url, app_id=app_id, app_secret=_app_secret(), resource=resource)
    log = ImportLog()
    plan = make_plan(documents, log, name=provider, assume=connector)
    config = cli.file
    env_file = env_file or config.parent / ENV_FILE
    existing = ExistingSettings(setting_files.read_toml(config), setting_files.read_variables(env_file), str(config))
    target = templates or existing.templates or FOLDER
    merged = merge(plan, existing, templates=target, log=log)
    placed = place(plan.files, config.parent / target, log, force=force, dry_run=dry_run)
    if not dry_run:
        setting_files.append_variables(env_file, merged.new_variables)
        if merged.new_toml is not None:
            setting_files.create_toml(config, merged.new_toml)
    if plan.providers and setting_files.others_can_read(env_file):
        log.note(str(env_file), "others on this machine can read it: chmod 600")
    report = Report(config, env_file, target, placed, merged, log, dry_run=dry_run)
    if report.is_empty:
        raise click.ClickException("There is no email connector and no email template to import.")
    if as_json:
        print_json(report_as_json(report))
    else:
        print_report(report)
    if log.left_out:
        raise click.exceptions.Exit(LEFT_OUT)


def _read(name: str) -> Any:
    try:
        with click.open_file(name, "rb") as stream:
            return decode(stream.read(LARGEST + 1), name)
    except OSError as error:
        raise ImportingError(f"cannot read {name}: {error.strerror}") from error


def _app_secret() -> str:
    file = os.environ.get(f"{LOGTO_SECRET}_FILE")
    if not file:
        secret = os.environ.get(LOGTO_SECRET)
        return secret or click.prompt("The application's secret", hide_input=True, err=True, type=str)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImportingError(f"cannot read {file}, which {LOGTO_SECRET}_FILE names") from error
