"""The `mailroom` command; one file per command."""

from mailroom.cli.checking import check
from mailroom.cli.doctor import doctor
from mailroom.cli.group import mailroom
from mailroom.cli.importing import import_
from mailroom.cli.keygen import keygen
from mailroom.cli.looking import outbox
from mailroom.cli.previewing import preview
from mailroom.cli.providers import providers
from mailroom.cli.sending import send
from mailroom.cli.serving import serve
from mailroom.cli.status import status

__all__ = ["main"]

for command in (check, doctor, import_, keygen, preview, providers, send, serve, status, outbox):
    mailroom.add_command(command)


def main() -> None:
    """Run the command that the arguments name; exit with 1 if it failed, with 2 on a usage error."""
    mailroom(prog_name="mailroom")
