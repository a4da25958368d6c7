"""The `mailroom` command; one file per command."""

from mailroom.cli.check_command import check
from mailroom.cli.context import mailroom
from mailroom.cli.doctor_command import doctor
from mailroom.cli.import_command import import_
from mailroom.cli.keygen_command import keygen
from mailroom.cli.outbox_commands import outbox
from mailroom.cli.preview_command import preview
from mailroom.cli.providers_command import providers
from mailroom.cli.send_command import send
from mailroom.cli.serve_command import serve
from mailroom.cli.status_command import status

__all__ = ["main"]

for command in (check, doctor, import_, keygen, preview, providers, send, serve, status, outbox):
    mailroom.add_command(command)


def main() -> None:
    """Run the command that the arguments name; exit with 1 if it failed, with 2 on a usage error."""
    mailroom(prog_name="mailroom")
