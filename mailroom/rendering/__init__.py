"""Writes mails: a message and a sender in, subject, HTML, text and the finished RFC 5322 bytes out."""

from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailroom.message import Address, Email, Message
from mailroom.rendering.links import logo


class Brand(BaseModel):
    """Who writes: what Logto's built-in email service offers, and a colour."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", max_length=50, description="the product's name, where Logto tells no other")
    logo_url: str = Field("", description="https, PNG or JPEG")
    dark_logo_url: str = Field("", description="the same for a dark background")
    company: str = Field("", max_length=200, description="name and postal address, in the footer")
    support_email: str = Field("", description="where a reader can ask")
    color: str = Field("#5D34F2", pattern=r"^#[0-9A-Fa-f]{6}$", description="of buttons and links")

    @field_validator("logo_url", "dark_logo_url")
    @classmethod
    def _shown_by_mail_clients(cls, address: str) -> str:
        if address and not logo(address):
            raise ValueError("must be an https address of a PNG, JPEG or GIF: mail clients show no other")
        return address


class Writer(Protocol):
    """Renders messages."""

    def write(
        self, message: Message, *, sender: Address, reply_to: Address | None, template_at_provider: str = ""
    ) -> Email:
        """Write the mail; the same arguments always give the same bytes.

        With a template of the provider's the mail has its name and its variables too, and needs no words of ours.
        Raises RenderingError (the operator can mend it) or MissingVariable (the request lacks its code or link).
        """
