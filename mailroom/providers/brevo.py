"""Brevo: developers.brevo.com/reference/send-transac-email."""

import json
import re
from email.header import Header
from typing import Any, Final, Literal

from pydantic import Field, field_validator

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable
from mailroom.message import Address, Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    header_map,
    json_request,
    mailbox_object,
)

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
    def _numbers(cls, templates: dict[str, str]) -> dict[str, str]:
        if not all(_NUMBER.fullmatch(template) for template in templates.values() if template):
            raise ValueError('give the numbers of templates as texts: "7" for what Brevo lists as #7')
        return templates


KINDS: Final[dict[str, type[SendingError]]] = {
    "invalid_parameter": Declined,
    "missing_parameter": Declined,
    "out_of_range": Declined,
    "bad_request": Declined,
    "unprocessable_entity": Declined,
    "not_acceptable": Declined,
    "unauthorized": Misconfigured,
    "permission_denied": Misconfigured,
    "not_enough_credits": Misconfigured,
    "account_under_validation": Misconfigured,
    "document_not_found": Misconfigured,
    "method_not_allowed": Misconfigured,
    "too_many_requests": Unavailable,
}
"""By the body's `code` (developers.brevo.com/docs/how-it-works and the types of its SDK)."""


class Brevo(HttpProvider):
    """Hands mails to Brevo, which knows a mail again by its `idempotencyKey` for 15 minutes at least."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host="https://api.brevo.com",
            credentials={"api-key": settings.api_key.get_secret_value()},
        )
        self._sandbox = {"X-Sib-Sandbox": "drop"} if settings.sandbox else {}

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        for name, value in email.headers:
            if not value.isascii():  # Brevo decodes encoded words and writes the header in raw UTF-8
                raise Misconfigured(f"Brevo can send the header {name} in ASCII only")
        fields: dict[str, Any] = {
            "sender": _mailbox(email.sender),
            "to": [{"email": email.recipient}],
            "subject": email.subject,
            "htmlContent": email.html,
            "textContent": email.text,
            # Message-ID is not among them: Brevo sets its own, "standard email headers are not supported".
            "headers": {
                **header_map(email),
                "idempotencyKey": email.id,
                "X-Mailin-custom": json.dumps({"mailroom_id": email.id}),
                **self._sandbox,
            },
        }
        if not email.html:
            del fields["htmlContent"]
        if email.template_at_provider:
            for name in ("subject", "htmlContent", "textContent"):
                fields.pop(name, None)
            fields["templateId"] = int(email.template_at_provider)
            fields["params"] = email.variables
        if email.reply_to:
            fields["replyTo"] = _mailbox(email.reply_to)
        # Brevo's pages leave open whose header it is (getbrevo/brevo-node#94): the request has it too.
        return json_request("/v3/smtp/email", fields, {"idempotencyKey": email.id})

    async def verify(self) -> str:
        """Ask for the account, see `Verifiable`; Brevo refuses addresses that it does not know here as well."""
        await self.asked("/v3/account")
        return "Brevo takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `code`."""
        if response.is_success:
            return response.receipt("messageId")
        code, words = response.text("code"), response.text("message")
        if code in _DUPLICATE:  # it has taken the mail at an earlier attempt, and does not tell its id again
            return Receipt("", words or code)
        kind = KINDS.get(code)
        if response.status == 429:  # noqa: PLR2004  # HTTP's
            kind = Unavailable
        elif response.status in range(500, 600) and code:
            kind = Unavailable  # Brevo's own words; the key makes the next try safe
        elif kind is Declined and any(ours in words.lower() for ours in ("sender", "template")):
            kind = Misconfigured
        if kind is None:
            raise self.refusal(response)
        raise response.error(kind, words, code=code, retry_after=response.retry_after("x-sib-ratelimit-reset"))


def _mailbox(address: Address) -> dict[str, str]:
    """Return it with a name that Brevo does not drop, which it does beyond ASCII with a special character."""
    if not address.name.isascii() and _SPECIAL.search(address.name):
        address = Address(address.email, Header(address.name, "utf-8").encode(linesep=""))
    return mailbox_object(address)


connect = Brevo
