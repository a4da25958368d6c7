"""Postmark: postmarkapp.com/developer/api/email-api."""

from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import header_pairs, mailbox_text
from mailroom.providers.http.response import ApiResponse

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
    def _require_token(self) -> Self:
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
    **dict.fromkeys(("429", "500", "503"), Unavailable),
}
"""By the body's `ErrorCode` (postmarkapp.com/developer/api/overview#error-codes). Any other is Misconfigured."""

_RECIPIENT: Final = "'to'"
_OUR_FIELDS: Final = ("'from'", "'reply-to'", "'replyto'", "metadata")
"""What a 300 names: the recipient, or a field that comes from our settings."""


class Postmark(HttpProvider[Settings]):
    """Sends by one of a Postmark server's message streams."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        token = TEST_TOKEN
        if settings.server_token is not None and not settings.sandbox:
            token = settings.server_token.get_secret_value()
        super().__init__(settings, context, "https://api.postmarkapp.com", {"X-Postmark-Server-Token": token})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        # Without X-PM-KeepID Postmark replaces the Message-ID.
        headers = (*header_pairs(email), ("Message-ID", email.message_id), ("X-PM-KeepID", "true"))
        fields = {
            "From": mailbox_text(email.sender),
            "To": email.recipient,
            **_content(email),
            "Headers": [{"Name": name, "Value": value} for name, value in headers],
            "Metadata": {"mailroom_id": email.id},
            "ReplyTo": email.reply_to and mailbox_text(email.reply_to),
            "MessageStream": self.settings.message_stream,
        }
        return json_request("/email/withTemplate" if email.template_at_provider else "/email", fields)

    async def verify(self) -> str:
        """Request the server to which the token belongs, see `Verifiable`."""
        if self.settings.sandbox:
            return "in the sandbox Postmark's own test token is used"
        response = await self.query("/server")
        return f"Postmark takes the token of the server {response.text('Name') or 'without a name'}"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `ErrorCode`."""
        code, message = response.text("ErrorCode"), response.text("Message")
        if response.is_success and code == "0":
            if "inactive address" in message:  # "Message OK, but will not deliver to these inactive addresses"
                raise response.error(Rejected, message, code="406")
            if identifier := response.text("MessageID"):
                return Receipt(identifier, message or response.diagnostic)
        if response.is_success and code in ("", "0"):
            raise response.undocumented()
        if not code:
            raise response.error()
        kind = KINDS.get(code, Unavailable if response.status in range(500, 600) else Misconfigured)
        if code == "300":
            text = message.lower()
            our_fault = any(name in text for name in _OUR_FIELDS)
            kind = Misconfigured if our_fault else Rejected if _RECIPIENT in text else Declined
        if kind is Misconfigured and response.status == 429:  # noqa: PLR2004  # HTTP's
            kind = Unavailable
        raise response.error(kind, message, code=code, is_throttled=code == "429")


def _content(email: Email) -> dict[str, Any]:
    template = email.template_at_provider
    if not template:
        return {"Subject": email.subject, "HtmlBody": email.html, "TextBody": email.text}
    identifier = {"TemplateId": int(template)} if template.isdecimal() else {"TemplateAlias": template}
    return {**identifier, "TemplateModel": email.variables}


connect = Postmark
