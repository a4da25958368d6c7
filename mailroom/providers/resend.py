"""Resend: resend.com/docs/api-reference/emails/send-email."""

from typing import Any, Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext, TemplatesAtProvider
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    header_map,
    json_request,
    mailbox_text,
)
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
    "validation_error": Declined,
    "missing_required_field": Declined,
    "invalid_attachment": Declined,
    "invalid_parameter": Declined,
    "security_error": Declined,
    "invalid_from_address": Misconfigured,
    "missing_api_key": Misconfigured,
    "invalid_api_key": Misconfigured,
    "restricted_api_key": Misconfigured,
    "invalid_access": Misconfigured,
    "invalid_region": Misconfigured,
    "invalid_idempotency_key": Misconfigured,
    "not_found": Misconfigured,
    "method_not_allowed": Misconfigured,
    # This key came with another body: our bytes changed, and what was sent under it is not known.
    "invalid_idempotent_request": Uncertain,
    "concurrent_idempotent_requests": Unavailable,
    "rate_limit_exceeded": Unavailable,
    "daily_quota_exceeded": Unavailable,
    "monthly_quota_exceeded": Unavailable,
    # Resend's own words for its own trouble; the key makes the next try safe.
    "application_error": Unavailable,
    "internal_server_error": Unavailable,
}
"""By the `name` in the body (resend.com/docs/api-reference/errors). A quota is waited for longer, see `_refusals`."""


class Resend(HttpProvider):
    """Hands mails to Resend, which knows a mail again by its `Idempotency-Key` for 24 hours."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host="https://api.resend.com",
            credentials={"Authorization": f"Bearer {settings.api_key.get_secret_value()}"},
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        fields: dict[str, Any] = {
            "from": mailbox_text(email.sender),
            "to": [email.recipient],
            **_content(email),
            "headers": {**header_map(email), "Message-ID": email.message_id},
            "tags": [{"name": "mailroom_id", "value": email.id}],
        }
        if email.reply_to:
            fields["reply_to"] = [mailbox_text(email.reply_to)]
        return json_request("/emails", fields, {"Idempotency-Key": email.id})

    async def verify(self) -> str:
        """Ask for the domains, see `Verifiable`; a key that may only send is refused that in words of its own."""
        try:
            await self.asked("/domains")
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
        ours = response.status == 403 or "template" in response.words.lower()  # noqa: PLR2004  # HTTP's
        if kind is Declined and ours:  # "verify a domain" comes as validation_error
            kind = Misconfigured
        if kind is None:
            raise self.refusal(response)
        wait = response.retry_after("ratelimit-reset")
        if name.endswith("quota_exceeded"):
            wait = max(wait or 0.0, QUOTA_WAIT_SECONDS)
        raise response.error(kind, code=name, retry_after=wait)


def _content(email: Email) -> dict[str, Any]:
    if email.template_at_provider:
        # Its templates have but `{{{NAME}}}`, which escapes nothing.
        variables = {name: value for name, value in flat(email.variables).items() if _takes(name, value)}
        return {"template": {"id": email.template_at_provider, "variables": variables}}
    html = {"html": email.html} if email.html else {}
    return {"subject": email.subject, **html, "text": email.text}


def _takes(name: str, value: str | float) -> bool:
    """Tell whether Resend takes a variable; without it the template's fallback stands in."""
    fits = len(value) <= _LONGEST_TEXT if isinstance(value, str) else abs(value) <= _GREATEST_NUMBER
    return fits and name not in _RESERVED


connect = Resend
