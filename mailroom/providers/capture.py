"""Stores mails for development: they can be read in the console, and none is sent."""

from typing import Literal

from mailroom.errors import CannotKeep, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext, ProviderSettings


class Settings(ProviderSettings):
    """No settings of its own."""

    type: Literal["capture"] = "capture"


class Capture:
    """Stores mails instead of sending them."""

    def __init__(self, _settings: Settings, context: ProviderContext) -> None:
        self._catcher = context.catcher

    async def send(self, email: Email) -> Receipt:
        """Store a mail. Raises Unavailable when it cannot be stored."""
        try:
            await self._catcher.keep(email)
        except CannotKeep as error:
            raise Unavailable(f"the mail could not be kept: {error}") from None
        return Receipt(email.id, "kept, not sent")

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


connect = Capture
