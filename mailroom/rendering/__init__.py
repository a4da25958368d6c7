"""Renders mails: from a message and a sender to subject, HTML, text and the complete RFC 5322 message."""

from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailroom.address import ascii_domain, mailbox
from mailroom.message import Address, Email, Message
from mailroom.rendering.links import address, logo


class Brand(BaseModel):
    """The sender's brand: the fields of Logto's built-in email service, and a colour."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", max_length=50, description="product name, used where the payload has no application name")
    logo_url: str = Field("", description="https address of a PNG, JPEG or GIF")
    dark_logo_url: str = Field("", description="logo for dark backgrounds")
    company: str = Field("", max_length=200, description="company name and postal address, shown in the footer")
    support_email: str = Field("", description="contact address for readers; also the Reply-To without `reply_to`")
    code_domain: str = Field(
        "",
        description="domain of your sign-in pages, `acme.example`: code mails then end with a line by which Apple "
        "Mail offers the code on its pages only",
    )
    color: str = Field(
        "#5D34F2",
        pattern=r"^#[0-9A-Fa-f]{6}$",
        description="colour of the bar, the code's box, buttons and links, #RRGGBB",
    )
    url: str = Field("", description="https address of your product: the logo's link, and the button of `Welcome`")
    account_url: str = Field(
        "", description="https address of the page where users manage their sign-in: linked in security mails"
    )
    context: tuple[Literal["recipient", "requested_at", "ip", "device", "valid_until"], ...] = Field(
        ("recipient", "requested_at", "ip", "device", "valid_until"),
        description="which facts about the request a mail shows; `device` is in mails of events only, `valid_until` in "
        "invitations only, and is the mail's time plus `lifetimes.invitation`",
    )

    @field_validator("code_domain")
    @classmethod
    def _check_code_domain(cls, domain: str) -> str:
        try:
            return domain and ascii_domain(domain)
        except ValueError:
            raise ValueError("write a domain: acme.example") from None

    @field_validator("logo_url", "dark_logo_url")
    @classmethod
    def _check_logo_url(cls, url: str) -> str:
        if url and not logo(url):
            raise ValueError("must be an https address of a PNG, JPEG or GIF; mail clients do not show other formats")
        return url

    @field_validator("url", "account_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url and not address(url).startswith("https://"):
            raise ValueError("must be an https address")
        return address(url)

    @field_validator("support_email")
    @classmethod
    def _check_support_email(cls, email: str) -> str:
        if email and mailbox(email).name:
            raise ValueError("must be an address without a name")
        return email


class Renderer(Protocol):
    """Renders messages."""

    def render(
        self,
        message: Message,
        *,
        sender: Address,
        reply_to: Address | None,
        template_at_provider: str = "",
        auto_submitted: bool = True,
    ) -> Email:
        """Render the mail; equal arguments give equal bytes.

        `auto_submitted`: with the headers that prevent automatic replies. With `template_at_provider` the mail also
        carries that name and the template's variables, and may lack content.
        Raises RenderingError (the operator can fix it) or MissingVariable (the request lacks its code or link).
        """
