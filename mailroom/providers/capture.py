"""Catches mails for development: each is kept and can be read in the console, none is sent."""

from typing import Literal

from mailroom.errors import CannotKeep, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext, ProviderSettings


class Settings(ProviderSettings):
    """Nothing to set."""

    type: Literal["capture"] = "capture"


class Capture:
    """Keeps mails where they can be read."""

    def __init__(self, _settings: Settings, context: ProviderContext) -> None:
        self._catcher = context.catcher

    async def send(self, email: Email) -> Receipt:
        """Keep a mail. Raises Unavailable when it cannot be kept."""
        try:
            await self._catcher.keep(email)
        except CannotKeep as error:
            raise Unavailable(f"the mail could not be kept: {error}") from None
        return Receipt(email.id, "kept, not sent")

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


connect = Capture
