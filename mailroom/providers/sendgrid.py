"""SendGrid: www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send."""

import re
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import bearer, header_map, mailbox_object
from mailroom.providers.http.response import ApiResponse, by_status

HOSTS: Final = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}

_RESERVED: Final = frozenset(
    {
        *("x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding"),
        *("to", "from", "subject", "reply-to", "cc", "bcc"),
    }
)
"""Headers that SendGrid does not take."""
_RECIPIENT: Final = re.compile(r"personalizations\.\d+\.to\b")
_OUR_FIELDS: Final = ("from", "reply_to", "headers", "custom_args", "mail_settings")
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
    def _check_templates(cls, templates: dict[str, str]) -> dict[str, str]:
        if not all(template.startswith("d-") for template in templates.values() if template):
            raise ValueError("give the ids of dynamic templates, which begin with d-; legacy ones are filled otherwise")
        return templates


class SendGrid(HttpProvider[Settings]):
    """Sends by SendGrid; its events are matched by `mailroom_id`, for they have another id than its responses."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        super().__init__(settings, context, HOSTS[settings.region], {"Authorization": bearer(settings.api_key)})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_map(email)
        for name in headers:
            if name.lower() in _RESERVED:
                raise Misconfigured(f"SendGrid has no way to set the header {name}")
        recipient: dict[str, Any] = {"to": [{"email": email.recipient}]}
        if email.template_at_provider:
            recipient["dynamic_template_data"] = email.variables
            content: dict[str, Any] = {"template_id": email.template_at_provider}
        else:  # text comes first, and an empty one is refused
            parts = (("text/plain", email.text), ("text/html", email.html))
            content = {
                "subject": email.subject,
                "content": [{"type": kind, "value": part} for kind, part in parts if part],
            }
        fields = {
            "personalizations": [recipient],
            "from": mailbox_object(email.sender),
            **content,
            "headers": {**headers, "Message-ID": email.message_id},
            "custom_args": {"mailroom_id": email.id},
            "reply_to": email.reply_to and mailbox_object(email.reply_to),
            "mail_settings": {"sandbox_mode": {"enable": True}} if self.settings.sandbox else None,
        }
        return json_request("/v3/mail/send", fields)

    async def verify(self) -> str:
        """List the key's scopes, see `Verifiable`."""
        scopes = (await self.query("/v3/scopes")).fields.get("scopes")
        if not isinstance(scopes, list) or "mail.send" not in scopes:
            raise Misconfigured("the key may not send: it lacks the scope mail.send")
        return "SendGrid takes the key, which may send"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the first of the body's `errors`."""
        if response.status == (_IN_SANDBOX if self.settings.sandbox else _ACCEPTED):
            return Receipt(response.headers.get("x-message-id", "")[:200], response.diagnostic)
        if response.is_success:
            raise response.undocumented()
        text, field = response.text("errors", 0, "message"), response.text("errors", 0, "field")
        if not text:
            raise response.error()
        wait = response.retry_after("x-ratelimit-reset")
        kind = _kind(response.status, field, text)
        raise response.error(kind, f"{text} ({field})" if field else text, retry_after=wait)


def _kind(status: int, field: str, text: str) -> type[SendingError]:
    if status in range(500, 600):
        return Unavailable  # with an error in SendGrid's own format it did not take the mail
    kind = by_status(status)
    if kind is not Declined:
        return kind
    if _RECIPIENT.match(field):
        return Rejected
    our_fault = field.startswith(_OUR_FIELDS) or "template" in field or "sender identity" in text.lower()
    return Misconfigured if our_fault else Declined


connect = SendGrid
