"""Postmark: postmarkapp.com/developer/api/email-api."""

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    header_pairs,
    json_request,
    mailbox_text,
)

TEST_TOKEN: Final = "POSTMARK_API_TEST"  # noqa: S105  # public: it checks a request and sends nothing


class Settings(TemplatesAtProvider, HttpSettings):
    """Postmark."""

    type: Literal["postmark"] = "postmark"
    server_token: ApiKey | None = Field(None, description="Postmark → your server → API Tokens")
    message_stream: str | None = Field(
        None, pattern=r"^[a-z0-9-]{1,30}$", description="the stream's id; Postmark's default is `outbound`"
    )
    sandbox: bool = Field(default=False, description="Postmark checks each mail and sends none; needs no token")

    @model_validator(mode="after")
    def _token(self) -> Self:
        if self.server_token is None and not self.sandbox:
            raise ValueError("server_token is missing (only sandbox = true does without)")
        return self


KINDS: Final[dict[str, type[SendingError]]] = {
    "10": Misconfigured,  # bad or missing token
    "100": Unavailable,  # maintenance
    "300": Declined,  # a field is not valid: of an address it is `_RECIPIENT`
    "400": Misconfigured,  # sender signature not found
    "401": Misconfigured,  # sender signature not confirmed
    "405": Misconfigured,  # no credit left
    "406": Rejected,  # the recipient bounced or complained
    "412": Misconfigured,  # account pending
    "413": Misconfigured,  # account may not send
    "429": Unavailable,
    "500": Unavailable,
    "503": Unavailable,
}
"""By the body's `ErrorCode` (postmarkapp.com/developer/api/overview#error-codes); any other is ours to mend."""

_RECIPIENT: Final = "'to'"
_SENDERS: Final = ("'from'", "'reply-to'", "'replyto'", "metadata")
"""What a 300 names: the recipient, or a field that comes from our settings."""


class Postmark(HttpProvider):
    """Hands mails to one of a server's message streams."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        sandbox = settings.sandbox or settings.server_token is None
        super().__init__(
            settings,
            context,
            host="https://api.postmarkapp.com",
            credentials={
                "X-Postmark-Server-Token": TEST_TOKEN if sandbox else settings.server_token.get_secret_value()  # type: ignore[union-attr]  # sandbox is true without it
            },
        )
        self._stream = settings.message_stream
        self._sandbox = sandbox

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        fields: dict[str, Any] = {
            "From": mailbox_text(email.sender),
            "To": email.recipient,
            "Subject": email.subject,
            "HtmlBody": email.html,
            "TextBody": email.text,
            "Headers": [
                {"Name": name, "Value": value}
                for name, value in (
                    *header_pairs(email),
                    ("Message-ID", email.message_id),
                    ("X-PM-KeepID", "true"),  # or Postmark puts its own in its place
                )
            ],
            "Metadata": {"mailroom_id": email.id},
        }
        if email.reply_to:
            fields["ReplyTo"] = mailbox_text(email.reply_to)
        if self._stream:
            fields["MessageStream"] = self._stream
        if not email.template_at_provider:
            return json_request("/email", fields)
        for name in ("Subject", "HtmlBody", "TextBody"):
            del fields[name]
        named = "TemplateId" if email.template_at_provider.isdecimal() else "TemplateAlias"
        fields[named] = int(email.template_at_provider) if named == "TemplateId" else email.template_at_provider
        fields["TemplateModel"] = email.variables
        return json_request("/email/withTemplate", fields)

    async def verify(self) -> str:
        """Ask for the server that the token is of, see `Verifiable`."""
        if self._sandbox:
            return "in the sandbox Postmark's own test token is used"
        answer = await self.asked("/server")
        return f"Postmark takes the token of the server {answer.text('Name') or 'without a name'}"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `ErrorCode`."""
        code, words = response.text("ErrorCode"), response.text("Message")
        if response.is_success and code == "0":
            if "inactive address" in words:  # "Message OK, but will not deliver to these inactive addresses"
                raise response.error(Rejected, words, code="406")
            if identifier := response.text("MessageID"):
                return Receipt(identifier, words or response.words)
        if response.is_success and code in ("", "0"):
            raise response.not_understood()
        if not code:
            raise self.refusal(response)
        kind = KINDS.get(code, Unavailable if response.status in range(500, 600) else Misconfigured)
        if code == "300":
            said = words.lower()
            ours = any(name in said for name in _SENDERS)
            kind = Misconfigured if ours else Rejected if _RECIPIENT in said else Declined
        if kind is Misconfigured and response.status == 429:  # noqa: PLR2004  # HTTP's
            kind = Unavailable
        raise response.error(kind, words, code=code)


connect = Postmark
