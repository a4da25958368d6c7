"""Catches mails for development: each is kept and can be read in the console, none is sent."""

from typing import Literal

from mailroom.errors import CannotKeep, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers import Catcher, ProviderSettings, Surroundings


class Settings(ProviderSettings):
    """Nothing to set."""

    type: Literal["capture"] = "capture"


def connect(settings: Settings, surroundings: Surroundings) -> "Capture":  # noqa: ARG001  # the protocol's signature
    """Return the provider."""
    return Capture(surroundings.catcher)


class Capture:
    """Keeps mails where they can be read."""

    def __init__(self, catcher: Catcher) -> None:
        self._catcher = catcher

    async def send(self, email: Email) -> Receipt:
        """Keep a mail. Raises Unavailable when it cannot be kept."""
        try:
            await self._catcher.keep(email)
        except CannotKeep as error:
            raise Unavailable(f"the mail could not be kept: {error}") from None
        return Receipt(email.id, "kept, not sent")

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""
