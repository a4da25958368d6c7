"""Brevo: developers.brevo.com/reference/send-transac-email."""

import json
import re
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable
from mailroom.message import Address, Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import encoded_words, header_map, mailbox_object
from mailroom.providers.http.response import ApiResponse

_DUPLICATE: Final = frozenset({"duplicate_parameter", "duplicate_request"})
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_SPECIAL: Final = re.compile(r'[()<>@,;:\\".\[\]]')


class Settings(TemplatesAtProvider, HttpSettings):
    """Brevo."""

    type: Literal["brevo"] = "brevo"
    api_key: ApiKey = Field(description="Brevo → Settings → SMTP & API → API Keys; starts with `xkeysib-`")
    sandbox: bool = Field(default=False, description="Brevo checks each mail, sends none and logs none")

    @field_validator("templates")
    @classmethod
    def _check_templates(cls, templates: dict[str, str]) -> dict[str, str]:
        if not all(_NUMBER.fullmatch(template) for template in templates.values() if template):
            raise ValueError('give the numbers of templates as texts: "7" for what Brevo lists as #7')
        return templates


KINDS: Final[dict[str, type[SendingError]]] = {
    **dict.fromkeys(("invalid_parameter", "missing_parameter", "out_of_range"), Declined),
    **dict.fromkeys(("bad_request", "unprocessable_entity", "not_acceptable"), Declined),
    **dict.fromkeys(("unauthorized", "permission_denied", "not_enough_credits"), Misconfigured),
    **dict.fromkeys(("account_under_validation", "document_not_found", "method_not_allowed"), Misconfigured),
    "too_many_requests": Unavailable,
}
"""By the body's `code` (developers.brevo.com/docs/how-it-works and the types of its SDK)."""


class Brevo(HttpProvider[Settings]):
    """Sends by Brevo, which recognizes a repeated mail by its `idempotencyKey` for at least 15 minutes."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        super().__init__(settings, context, "https://api.brevo.com", {"api-key": settings.api_key.get_secret_value()})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        for name, value in email.headers:
            if not value.isascii():  # Brevo decodes encoded words and writes the header in raw UTF-8
                raise Misconfigured(f"Brevo can send the header {name} in ASCII only")
        fields = {
            "sender": _mailbox(email.sender),
            "to": [{"email": email.recipient}],
            **_content(email),
            # Message-ID is not among them: Brevo sets its own, "standard email headers are not supported".
            "headers": {
                **header_map(email),
                "idempotencyKey": email.id,
                "X-Mailin-custom": json.dumps({"mailroom_id": email.id}),
                **({"X-Sib-Sandbox": "drop"} if self.settings.sandbox else {}),
            },
            "replyTo": email.reply_to and _mailbox(email.reply_to),
        }
        # Brevo's pages do not say whether `idempotencyKey` is the mail's or the request's header
        # (getbrevo/brevo-node#94): both have it.
        return json_request("/v3/smtp/email", fields, {"idempotencyKey": email.id})

    async def verify(self) -> str:
        """Request the account, see `Verifiable`; Brevo refuses unknown IP addresses here as well."""
        await self.query("/v3/account")
        return "Brevo takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `code`."""
        if response.is_success:
            return response.receipt("messageId")
        code, message = response.text("code"), response.text("message")
        if code in _DUPLICATE:  # an earlier attempt was accepted, and its id is not repeated
            return Receipt("", message or code)
        kind = KINDS.get(code)
        if response.status == 429:  # noqa: PLR2004  # HTTP's
            kind = Unavailable
        elif response.status in range(500, 600) and code:
            kind = Unavailable  # an error in Brevo's own format; the key makes the next attempt safe
        elif kind is Declined and any(word in message.lower() for word in ("sender", "template")):
            kind = Misconfigured
        raise response.error(kind, message, code=code, retry_after=response.retry_after("x-sib-ratelimit-reset"))


def _content(email: Email) -> dict[str, Any]:
    if email.template_at_provider:
        return {"templateId": int(email.template_at_provider), "params": email.variables}
    return {"subject": email.subject, "htmlContent": email.html or None, "textContent": email.text}


def _mailbox(address: Address) -> dict[str, str]:
    """Return the mailbox; Brevo drops a name beyond ASCII that has a special character, unless it is encoded."""
    if _SPECIAL.search(address.name):
        address = Address(address.email, encoded_words(address.name))
    return mailbox_object(address)


connect = Brevo
