"""`mailroom keygen`: generates secrets."""

import secrets

import click

from mailroom.cli.context import as_json
from mailroom.cli.output import print_block, print_json
from mailroom.config.development import new_key


@click.command()
@click.option("--env", "as_variables", is_flag=True, help="Print lines for an env file instead of TOML.")
@as_json
def keygen(*, as_variables: bool, as_json: bool) -> None:
    """Print a new secret_key and a new Authorization value, ready to paste.

    The Authorization value is typed into Logto's HTTP email connector, too.
    """
    key, authorization = new_key(), f"Bearer {secrets.token_urlsafe(32)}"
    if as_json:
        print_json({"secret_key": key, "authorization": authorization})
    elif as_variables:
        print_block(f"MAILROOM_SECRET_KEY={key}\nMAILROOM_CONNECTOR__AUTHORIZATION={authorization}")
    else:
        print_block(f'secret_key = "{key}"\n\n[connector]\nauthorization = "{authorization}"')
