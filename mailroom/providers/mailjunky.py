"""MailJunky: www.mailjunky.ai/docs, its SDKs (npm @mailjunky/sdk 0.5, PyPI mailjunky 0.1) and Logto's own connector.

All three agree on path and fields. The host is that of the documentation and of Logto's connector (npm
@logto/connector-mailjunky 1.6), which Logto's users use; the SDKs' is api.mailjunky.ai: set `endpoint` for it.
"""

from typing import Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import bearer, header_map, mailbox_text
from mailroom.providers.http.response import ApiResponse, by_status

_OUR_FIELDS: Final = ("from", "sender", "domain", "reply_to", "header", "metadata")
"""What a 400 or 422 names when the fault is in our settings, not in the recipient."""


class Settings(HttpSettings):
    """MailJunky."""

    type: Literal["mailjunky"] = "mailjunky"
    api_key: ApiKey = Field(description="MailJunky → API keys; starts with `mj_live_` or `mj_test_`")


class MailJunky(HttpProvider[Settings]):
    """Sends by MailJunky, whose response has the state of the mail: `sent`, `queued` or `failed`."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        super().__init__(settings, context, "https://mailjunky.ai", {"Authorization": bearer(settings.api_key)})

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        fields = {
            "from": mailbox_text(email.sender),
            "to": email.recipient,
            "subject": email.subject,
            "metadata": {"mailroom_id": email.id},
            "html": email.html or None,
            "text": email.text or None,
            "reply_to": email.reply_to and mailbox_text(email.reply_to),
            "headers": header_map(email) or None,  # without Message-ID: MailJunky sets its own
        }
        return json_request("/api/v1/emails/send", fields)

    async def verify(self) -> str:
        """List contacts with a tag that none has, see `Verifiable`: the API has no other query, and it shows nobody."""
        try:
            response = await self.query("/api/v1/contacts?limit=1&tag=mailroom-doctor")
        except Misconfigured as error:
            if error.code != "HTTP 403":
                raise
            limits = "the key may not list contacts; whether it may send cannot be told without a mail"
            text = f"{error.diagnostic}: {limits}"
            raise Uncertain(text, code=error.code) from None
        if not isinstance(response.fields.get("data"), list):
            raise response.undocumented()
        return "MailJunky takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the status: codes are not documented."""
        if response.is_success:
            status = response.text("status")
            if status == "failed":  # for an undocumented reason; another provider may send it
                message = response.text("error") or response.text("message") or status
                raise response.error(Unavailable, message, code=status)
            identifier = response.text("id") or response.text("message_id")
            if identifier and status in ("sent", "queued"):
                return Receipt(identifier, status)
            raise response.undocumented()
        kind = by_status(response.status)
        if kind is Declined and any(field in response.diagnostic.lower() for field in _OUR_FIELDS):
            kind = Misconfigured
        raise response.error(kind, code=response.text("code"))


connect = MailJunky
