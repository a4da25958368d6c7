"""SendGrid: www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

import re
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    by_status,
    header_map,
    json_request,
    mailbox_object,
)

HOSTS: Final = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}

_RESERVED: Final = frozenset(
    {
        *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
        *("to", "from", "subject", "reply-to", "cc", "bcc"),
    }
)
"""Headers that SendGrid does not take."""
_RECIPIENT: Final = re.compile(r"personalizations\.\d+\.to\b")
_ACCEPTED: Final = 202
_IN_SANDBOX: Final = 200


class Settings(TemplatesAtProvider, HttpSettings):
    """SendGrid."""

    type: Literal["sendgrid"] = "sendgrid"
    api_key: ApiKey = Field(description="SendGrid → Settings → API Keys; `Mail Send` is enough")
    region: Literal["global", "eu"] = Field("global", description="`eu` for a regional subuser and its own key")
    sandbox: bool = Field(default=False, description="SendGrid checks each mail and sends none")

    @field_validator("templates")
    @classmethod
    def _dynamic(cls, templates: dict[str, str]) -> dict[str, str]:
        if not all(template.startswith("d-") for template in templates.values() if template):
            raise ValueError("give the ids of dynamic templates, which begin with d-; legacy ones are filled otherwise")
        return templates


class SendGrid(HttpProvider):
    """Hands mails to SendGrid; its events are matched by `mailroom_id`, for its answer's id is not theirs."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host=HOSTS[settings.region],
            credentials={"Authorization": f"Bearer {settings.api_key.get_secret_value()}"},
        )
        self._sandbox = settings.sandbox

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_map(email)
        for name in headers:
            if name.lower() in _RESERVED:
                raise Misconfigured(f"SendGrid has no way to set the header {name}")
        fields: dict[str, Any] = {
            "personalizations": [{"to": [{"email": email.recipient}]}],
            "from": mailbox_object(email.sender),
            "subject": email.subject,
            # Text comes first, and an empty one is refused.
            "content": [
                {"type": kind, "value": value}
                for kind, value in (("text/plain", email.text), ("text/html", email.html))
                if value
            ],
            "headers": {**headers, "Message-ID": email.message_id},
            "custom_args": {"mailroom_id": email.id},
        }
        if email.template_at_provider:
            del fields["subject"], fields["content"]
            fields["template_id"] = email.template_at_provider
            fields["personalizations"][0]["dynamic_template_data"] = email.variables
        if email.reply_to:
            fields["reply_to"] = mailbox_object(email.reply_to)
        if self._sandbox:
            fields["mail_settings"] = {"sandbox_mode": {"enable": True}}
        return json_request("/v3/mail/send", fields)

    async def verify(self) -> str:
        """Ask what the key may do, see `Verifiable`."""
        scopes = (await self.asked("/v3/scopes")).fields.get("scopes")
        if not isinstance(scopes, list) or "mail.send" not in scopes:
            raise Misconfigured("the key may not send: it lacks the scope mail.send")
        return "SendGrid takes the key, which may send"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the first of the body's `errors`."""
        if response.status == (_IN_SANDBOX if self._sandbox else _ACCEPTED):
            return Receipt(response.headers.get("x-message-id", "")[:200], response.words)
        if response.is_success:
            raise response.not_understood()
        words, field = response.text("errors", 0, "message"), response.text("errors", 0, "field")
        if not words:
            raise self.refusal(response)
        raise response.error(
            _kind(response.status, field, words),
            f"{words} ({field})" if field else words,
            retry_after=response.retry_after("x-ratelimit-reset"),
        )


def _kind(status: int, field: str, words: str) -> type[SendingError]:
    if status in range(500, 600):
        return Unavailable  # SendGrid's own words: it did not take the mail
    kind = by_status(status)
    if kind is not Declined:
        return kind
    if _RECIPIENT.match(field):
        return Rejected
    ours = field.startswith(("from", "reply_to", "headers", "custom_args", "mail_settings")) or "template" in field
    return Misconfigured if ours or "sender identity" in words.lower() else Declined


connect = SendGrid
