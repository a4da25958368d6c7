"""`mailroom keygen`: generates secrets."""

import os
import secrets
import shutil
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import click
from pydantic import SecretStr

from mailroom.cli.context import as_json
from mailroom.cli.output import print_block, print_json, print_line
from mailroom.config import env_file, toml
from mailroom.config.constraints import is_placeholder
from mailroom.config.development import new_key

_SETTINGS: Final = (None, "secret_key"), ("connector", "authorization")
"""Table and name."""


@click.command()
@click.option("--env", "as_variables", is_flag=True, help="Print lines for an env file instead of TOML.")
@click.option(
    "--write",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write those that are missing to this TOML file.",
)
@as_json
def keygen(*, as_variables: bool, file: Path | None, as_json: bool) -> None:
    """Print a new secret_key and a new Authorization value, ready to paste, or write them to mailroom.toml.

    With --write mailroom.toml values that the file has are not changed, nor are its comments; only placeholders are
    replaced. The Authorization value is typed into Logto's HTTP email connector, too.
    """
    generated = {"secret_key": new_key(), "authorization": f"Bearer {secrets.token_urlsafe(32)}"}
    if file is not None:
        if as_variables:
            raise click.UsageError("--env prints variables, --write writes TOML: choose one.")
        written = _write_missing(file.resolve(), generated)
        if as_json:
            print_json({"file": str(file), "written": written})
        else:
            _print_written(file, written)
    elif as_json:
        print_json(generated)
    elif as_variables:
        lines = env_file.line("MAILROOM_SECRET_KEY", generated["secret_key"])
        print_block(lines + env_file.line("MAILROOM_CONNECTOR__AUTHORIZATION", generated["authorization"]))
    else:
        key, authorization = generated["secret_key"], generated["authorization"]
        print_block(f'secret_key = "{key}"\n\n[connector]\nauthorization = "{authorization}"')


def _write_missing(file: Path, generated: dict[str, str]) -> dict[str, str]:
    """Set what is missing or a placeholder; return it."""
    try:
        text = file.read_text(encoding="utf-8-sig") if file.exists() else ""
        tree = tomllib.loads(text)
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file} is not TOML: {error}; correct it first") from error
    written = {}
    for table, name in _SETTINGS:
        values = tree if table is None else tree.get(table)
        old = values.get(name) if isinstance(values, dict) else None
        if old and not (isinstance(old, str) and is_placeholder(SecretStr(old))):
            continue
        try:
            text = toml.with_text(text, table, name, generated[name])
        except ValueError as error:
            raise click.ClickException(f"{file}: {error}") from error
        written[name] = generated[name]
    if written:
        try:
            _replace(file, text)
        except OSError as error:
            raise click.ClickException(f"cannot write {file}: {error.strerror}") from error
    return written


def _replace(file: Path, text: str) -> None:
    """Replace the file, atomically; it keeps its owner and mode. Only its owner can read a new one."""
    temporary = NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False)  # noqa: SIM115 - closed below
    try:
        with temporary:
            temporary.write(text)
            temporary.flush()
            os.fsync(temporary.fileno())
        if file.exists():
            shutil.copymode(file, temporary.name)
            with suppress(PermissionError):
                os.chown(temporary.name, file.stat().st_uid, file.stat().st_gid)
        Path(temporary.name).replace(file)
    except OSError:
        Path(temporary.name).unlink()
        raise


def _print_written(file: Path, written: dict[str, str]) -> None:
    for _, name in _SETTINGS:
        print_line(f"{file}: {name} {'written' if name in written else 'is set already, and was not changed'}.")
    if "authorization" in written:
        print_line("Authorization Header for Logto's HTTP email connector:")
        print_block(written["authorization"], indent="    ")
    if written and file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print_line(f"Note: others on this machine can read {file}: chmod 600")
