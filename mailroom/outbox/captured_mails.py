"""The mails that the `capture` provider stores instead of sending them, for development."""

from dataclasses import dataclass
from typing import Protocol

from mailroom.clock import Instant
from mailroom.message import Email


@dataclass(frozen=True, slots=True)
class CapturedMail:
    """A mail that the `capture` provider stored instead of sending it."""

    id: str
    captured_at: Instant
    sender: str
    recipient: str
    subject: str
    size: int
    """Octets of the raw mail."""


class CapturedMails(Protocol):
    """Stores the mails of the `capture` provider, a limited number: the oldest are deleted."""

    async def keep(self, email: Email) -> None:
        """Store a mail. Raises CannotKeep."""

    async def newest(self, limit: int) -> list[CapturedMail]:
        """Return the latest mails, newest first."""

    async def raw(self, id: str) -> bytes | None:  # noqa: A002 - the field's word
        """Return a mail as RFC 5322 text; None: unknown id."""
