"""MailJunky: www.mailjunky.ai/docs, its SDKs (npm @mailjunky/sdk 0.5, PyPI mailjunky 0.1) and Logto's own connector.

All three agree on path and fields. The host is that of the documentation and of Logto's connector (npm
@logto/connector-mailjunky 1.6), which runs at Logto's users; the SDKs' is api.mailjunky.ai, an `endpoint` away.
"""

from typing import Any, Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    by_status,
    header_map,
    json_request,
    mailbox_text,
)

_OURS: Final = ("from", "sender", "domain", "reply_to", "header", "metadata")
"""What a 400 or 422 speaks of when the fault is in our settings, not in the recipient."""


class Settings(HttpSettings):
    """MailJunky."""

    type: Literal["mailjunky"] = "mailjunky"
    api_key: ApiKey = Field(description="MailJunky → API keys; starts with `mj_live_` or `mj_test_`")


class MailJunky(HttpProvider):
    """Hands mails to MailJunky, which tells what became of one at once: `sent`, `queued` or `failed`."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host="https://mailjunky.ai",
            credentials={"Authorization": f"Bearer {settings.api_key.get_secret_value()}"},
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        fields: dict[str, Any] = {
            "from": mailbox_text(email.sender),
            "to": email.recipient,
            "subject": email.subject,
            "metadata": {"mailroom_id": email.id},
        }
        parts = {"html": email.html, "text": email.text}
        fields |= {part: content for part, content in parts.items() if content}
        if email.reply_to:
            fields["reply_to"] = mailbox_text(email.reply_to)
        if headers := header_map(email):  # Message-ID is not among them: the answer has MailJunky's own
            fields["headers"] = headers
        return json_request("/api/v1/emails/send", fields)

    async def verify(self) -> str:
        """Ask for contacts of a tag that nobody has, see `Verifiable`: nothing else can be asked, nobody is shown."""
        try:
            answer = await self.asked("/api/v1/contacts?limit=1&tag=mailroom-doctor")
        except Misconfigured as error:
            if error.code != "HTTP 403":
                raise
            words = f"{error.words}: the key may not list contacts; whether it may send cannot be told without a mail"
            raise Uncertain(words, code=error.code) from None
        if not isinstance(answer.fields.get("data"), list):
            raise answer.not_understood()
        return "MailJunky takes the key"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the status: codes are not documented."""
        status = response.text("status")
        if response.is_success:
            identifier = response.text("id") or response.text("message_id")
            if status == "failed":  # and why is not documented: what was not sent may be sent another way
                raise response.error(
                    Unavailable, response.text("error") or response.text("message") or status, code=status
                )
            if identifier and status in ("sent", "queued"):
                return Receipt(identifier, status)
            raise response.not_understood()
        if response.status in range(300, 400):
            raise self.refusal(response)
        raise response.error(_kind(response), code=response.text("code"))


def _kind(answer: ApiResponse) -> type[SendingError]:
    kind = by_status(answer.status)
    if kind is Declined and any(word in answer.words.lower() for word in _OURS):
        return Misconfigured
    return kind


connect = MailJunky
