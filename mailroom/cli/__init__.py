"""The `mailroom` command; one file per command."""

from mailroom.cli.context import mailroom

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name; exit with 1 if it failed, with 2 on a usage error."""
    mailroom(prog_name="mailroom")
