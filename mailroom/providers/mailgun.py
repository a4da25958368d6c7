"""Mailgun: documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages."""

import json
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from mailroom.errors import Misconfigured, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, form_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import basic, header_map, mailbox_text
from mailroom.providers.http.response import ApiResponse

HOSTS: Final = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
MOST_OPTIONS: Final = 16 * 1024
"""Octets of all headers, options and variables of a mail together."""


def _tag(tag: str) -> str:
    if not (tag.isascii() and tag.isprintable() and 0 < len(tag) <= 128):  # noqa: PLR2004  # Mailgun's
        raise ValueError("a tag has 1 to 128 ASCII characters")
    return tag


class Settings(TemplatesAtProvider, HttpSettings):
    """Mailgun."""

    type: Literal["mailgun"] = "mailgun"
    domain: str = Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$",
        description="the sending domain: `mg.acme.example`",
    )
    api_key: ApiKey = Field(description="Mailgun → the domain → Sending keys: such a key can only send")
    region: Literal["us", "eu"] = Field("us", description="the region in which the domain was added")
    tags: tuple[Annotated[str, AfterValidator(_tag)], ...] = Field(
        (), max_length=10, description="marks all mails in Mailgun's statistics"
    )
    sandbox: bool = Field(
        default=False, description="Mailgun accepts the mails and delivers none (`o:testmode`); it counts them"
    )


_OUR_FAULT: Final = (
    *("'from' parameter", "from parameter", "is not allowed to send", "sandbox subdomains", "disabled"),
    "template",
)
"""Texts of a 400 for which our configuration is wrong; any other is about the mail. Mailgun has no codes."""


class Mailgun(HttpProvider[Settings]):
    """Sends by Mailgun, which does not recognize a repeated mail: its users report 5xx on mail that was sent."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        super().__init__(
            settings,
            context,
            HOSTS[settings.region],
            {"Authorization": basic("api", settings.api_key)},
            secrets=[settings.api_key.get_secret_value()],
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail. Raises Misconfigured if its headers and variables are too long."""
        options = [
            *((f"h:{name}", value) for name, value in header_map(email).items()),
            ("h:Message-Id", email.message_id),
            *([("h:Reply-To", mailbox_text(email.reply_to))] if email.reply_to else []),
            ("v:mailroom_id", email.id),
        ]
        content = [("subject", email.subject), ("text", email.text), *([("html", email.html)] if email.html else [])]
        if email.template_at_provider:
            content = [("template", email.template_at_provider)]
            # As `h:X-Mailgun-Variables` or `v:` they would come back in events, codes too.
            options.append(("t:variables", json.dumps(email.variables, ensure_ascii=False)))
            options.append(("t:text", "yes"))  # a text part, made from the template
        options += [("o:tag", tag) for tag in self.settings.tags]
        if self.settings.sandbox:
            options.append(("o:testmode", "yes"))
        if sum(len(name) + len(value.encode()) for name, value in options) > MOST_OPTIONS:
            raise Misconfigured("the mail's headers and variables are longer than the 16 kB that Mailgun takes")
        addresses = [("from", mailbox_text(email.sender)), ("to", email.recipient)]
        return form_request(f"/v3/{self.settings.domain}/messages", [*addresses, *content, *options])

    async def verify(self) -> str:
        """Request the domain, see `Verifiable`; raises Uncertain where a key for sending looks like a wrong one."""
        domain = self.settings.domain
        try:
            response = await self.query(f"/v3/domains/{domain}")
        except Misconfigured as error:
            if error.code not in ("HTTP 401", "HTTP 403"):
                raise
            text = f"{error.diagnostic}: the key is wrong, or may only send, which cannot be told without a mail"
            raise Uncertain(text, code=error.code) from None
        state = response.text("domain", "state")
        if state != "active":
            raise Misconfigured(f"Mailgun does not send for {domain} yet: its state is {state or 'not told'}")
        return f"Mailgun takes the key, and sends for {domain}"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the status and the diagnostic."""
        diagnostic = response.diagnostic
        if response.is_success:
            identifier = response.text("id")
            if identifier and response.text("message").startswith("Queued"):
                return Receipt(identifier, diagnostic)
            if "Mailgun Magnificent API" in diagnostic:
                raise response.error(
                    Misconfigured, "it is not the messages' address: check domain, region and endpoint"
                )
            raise response.undocumented()
        our_fault = response.status == 400 and any(text in diagnostic.lower() for text in _OUR_FAULT)  # noqa: PLR2004  # HTTP's
        raise response.error(Misconfigured if our_fault else None)


connect = Mailgun
