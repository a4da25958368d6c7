"""The provider that stores mails in development."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mailroom.errors import CannotKeep, Unavailable
from mailroom.message import Email
from mailroom.providers import connect
from mailroom.providers.capture import Settings
from tests.mails import email
from tests.providers.contract import context


class Folder:
    """Stores mails in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def keep(self, email: Email) -> None:
        """Write it as `.eml`."""
        try:
            (self.path / f"{email.id}.eml").write_bytes(email.raw)
        except OSError as error:
            raise CannotKeep(f"cannot write: {error.strerror}") from error


async def test_a_mail_is_stored_and_not_sent(tmp_path: Path) -> None:
    provider = connect(Settings(), context(catcher=Folder(tmp_path)))
    receipt = await provider.send(email())
    await provider.aclose()
    assert (tmp_path / f"{receipt.provider_message_id}.eml").read_bytes() == email().raw


async def test_a_mail_that_cannot_be_stored_is_unavailable(tmp_path: Path) -> None:
    provider = connect(Settings(), context(catcher=Folder(tmp_path / "missing")))
    with pytest.raises(Unavailable, match="No such file"):
        await provider.send(email())


def test_there_are_no_settings() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"type": "capture", "host": "smtp.acme.example"})
