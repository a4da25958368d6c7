"""Resend: resend.com/docs/api-reference/emails/send-email."""

from typing import Any, Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import bearer, header_map, mailbox_text
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.http.template_variables import flat
from mailroom.providers.refusals import QUOTA_WAIT_SECONDS

_RESERVED: Final = frozenset(
    {"FIRST_NAME", "LAST_NAME", "EMAIL", "UNSUBSCRIBE_URL", "RESEND_UNSUBSCRIBE_URL", "contact", "this"}
)
_LONGEST_TEXT: Final = 2000
_GREATEST_NUMBER: Final = 2**53 - 1


class Settings(TemplatesAtProvider, HttpSettings):
    """Resend."""

    type: Literal["resend"] = "resend"
    api_key: ApiKey = Field(description="Resend → API Keys; `Sending access` is enough")


KINDS: Final[dict[str, type[SendingError]]] = {
    **dict.fromkeys(("validation_error", "missing_required_field", "invalid_attachment"), Declined),
    **dict.fromkeys(("invalid_parameter", "security_error"), Declined),
    **dict.fromkeys(("invalid_from_address", "missing_api_key", "invalid_api_key"), Misconfigured),
    **dict.fromkeys(("restricted_api_key", "invalid_access", "invalid_region"), Misconfigured),
    **dict.fromkeys(("invalid_idempotency_key", "not_found", "method_not_allowed"), Misconfigured),
    # This key came with another body: our bytes changed, and what was sent under it is not known.
    "invalid_idempotent_request": Uncertain,
    "concurrent_idempotent_requests": Unavailable,
    **dict.fromkeys(("rate_limit_exceeded", "daily_quota_exceeded", "monthly_quota_exceeded"), Unavailable),
    # Resend's own server errors; the idempotency key makes the next attempt safe.
    **dict.fromkeys(("application_error", "internal_server_error"), Unavailable),
}
"""By the body's `name` (resend.com/docs/api-reference/errors). After a quota the wait is longer, see `refusals`."""


class Resend(HttpProvider[Settings]):
    """Sends by Resend, which recognizes a repeated mail by its `Idempotency-Key` for 24 hours."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        super().__init__(settings, context, "https://api.resend.com", {"Authorization": bearer(settings.api_key)})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        fields = {
            "from": mailbox_text(email.sender),
            "to": [email.recipient],
            **_content(email),
            "headers": {**header_map(email), "Message-ID": email.message_id},
            "tags": [{"name": "mailroom_id", "value": email.id}],
            "reply_to": email.reply_to and [mailbox_text(email.reply_to)],
        }
        return json_request("/emails", fields, {"Idempotency-Key": email.id})

    async def verify(self) -> str:
        """List the domains, see `Verifiable`; for a key that may only send, Resend has an error of its own."""
        try:
            await self.query("/domains")
        except Misconfigured as error:
            if error.code != "restricted_api_key":
                raise
            return "Resend takes the key, which may only send"
        return "Resend takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the body's `name`."""
        if response.is_success:
            return response.receipt("id")
        name = response.text("name")
        kind = KINDS.get(name)
        our_fault = response.status == 403 or "template" in response.diagnostic.lower()  # noqa: PLR2004  # HTTP's
        if kind is Declined and our_fault:  # "verify a domain" comes as validation_error
            kind = Misconfigured
        wait = response.retry_after("ratelimit-reset")
        if name.endswith("quota_exceeded"):
            wait = max(wait or 0.0, QUOTA_WAIT_SECONDS)
        raise response.error(kind, code=name, retry_after=wait)


def _content(email: Email) -> dict[str, Any]:
    if email.template_at_provider:
        # Resend's templates have `{{{NAME}}}` only, which escapes nothing.
        variables = {name: value for name, value in flat(email.variables).items() if _is_accepted(name, value)}
        return {"template": {"id": email.template_at_provider, "variables": variables}}
    return {"subject": email.subject, "html": email.html or None, "text": email.text}


def _is_accepted(name: str, value: str | float) -> bool:
    """Return whether Resend accepts a variable; without it the template's fallback is used."""
    is_within_limits = len(value) <= _LONGEST_TEXT if isinstance(value, str) else abs(value) <= _GREATEST_NUMBER
    return is_within_limits and name not in _RESERVED


connect = Resend
