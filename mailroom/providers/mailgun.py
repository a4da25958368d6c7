"""Mailgun: documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages."""

import json
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, Field

from mailroom.errors import Misconfigured, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    basic,
    header_map,
    mailbox_text,
)

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
    api_key: ApiKey = Field(description="Mailgun → the domain → Sending keys: such a key can send, and nothing else")
    region: Literal["us", "eu"] = Field("us", description="where the domain was made")
    tags: tuple[Annotated[str, AfterValidator(_tag)], ...] = Field(
        (), max_length=10, description="marks all mails in Mailgun's statistics"
    )
    sandbox: bool = Field(
        default=False, description="Mailgun accepts the mails and delivers none (`o:testmode`); it counts them"
    )


_OURS: Final = (
    *("'from' parameter", "from parameter", "is not allowed to send", "sandbox subdomains", "disabled"),
    "template",
)
"""What stands in a 400 that is about us; all others are about the mail. Mailgun has no codes."""


class Mailgun(HttpProvider):
    """Hands mails to Mailgun, which knows no mail again: its users report 5xx on mail that was sent."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host=HOSTS[settings.region],
            credentials={"Authorization": basic("api", settings.api_key)},
        )
        self._key = settings.api_key
        self._path = f"/v3/{settings.domain}/messages"
        self._domain = settings.domain
        self._options = [("o:tag", tag) for tag in settings.tags]
        if settings.sandbox:
            self._options.append(("o:testmode", "yes"))

    def secrets(self) -> tuple[str, ...]:
        """Return the key as it was before it was packed into a header."""
        return (self._key.get_secret_value(),)

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail. Raises Misconfigured for more headers and variables than it takes."""
        variables = []
        content = [("subject", email.subject), ("text", email.text), *([("html", email.html)] if email.html else [])]
        if email.template_at_provider:
            content = [("template", email.template_at_provider)]
            variables = [
                # As `h:X-Mailgun-Variables` or `v:` they would come back in events, codes and all.
                ("t:variables", json.dumps(email.variables, ensure_ascii=False)),
                ("t:text", "yes"),  # a text part, made from the template
            ]
        options = [
            *(((f"h:{name}", value)) for name, value in header_map(email).items()),
            ("h:Message-Id", email.message_id),
            *([("h:Reply-To", mailbox_text(email.reply_to))] if email.reply_to else []),
            ("v:mailroom_id", email.id),
            *variables,
            *self._options,
        ]
        if sum(len(name) + len(value.encode()) for name, value in options) > MOST_OPTIONS:
            raise Misconfigured("the mail's headers and variables are longer than the 16 kB that Mailgun takes")
        fields = [("from", mailbox_text(email.sender)), ("to", email.recipient), *content, *options]
        return ApiRequest(self._path, urlencode(fields).encode(), "application/x-www-form-urlencoded")

    async def verify(self) -> str:
        """Ask for the domain, see `Verifiable`; raises Uncertain where a key for sending looks like a wrong one."""
        try:
            answer = await self.asked(f"/v3/domains/{self._domain}")
        except Misconfigured as error:
            if error.code not in ("HTTP 401", "HTTP 403"):
                raise
            words = f"{error.words}: the key is wrong, or may only send, which cannot be told without a mail"
            raise Uncertain(words, code=error.code) from None
        state = answer.text("domain", "state")
        if state != "active":
            raise Misconfigured(f"Mailgun does not send for {self._domain} yet: its state is {state or 'not told'}")
        return f"Mailgun takes the key, and sends for {self._domain}"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the status and the words."""
        if response.is_success:
            identifier = response.text("id")
            if identifier and response.text("message").startswith("Queued"):
                return Receipt(identifier, response.words)
            if "Mailgun Magnificent API" in response.words:
                raise response.error(
                    Misconfigured, "it is not the messages' address: check domain, region and endpoint"
                )
            raise response.not_understood()
        said = response.words.lower()
        if response.status == 400 and any(words in said for words in _OURS):  # noqa: PLR2004  # HTTP's
            raise response.error(Misconfigured)
        raise self.refusal(response)


connect = Mailgun
