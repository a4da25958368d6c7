"""Mailjet: dev.mailjet.com/email/guides/send-api-v31."""

import re
from typing import Any, Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError
from mailroom.message import Email, Receipt
from mailroom.providers import ProviderContext
from mailroom.providers.http.http_provider import (
    ApiKey,
    ApiRequest,
    ApiResponse,
    HttpProvider,
    HttpSettings,
    basic,
    by_status,
    header_map,
    json_request,
    mailbox_object,
)

_FORBIDDEN: Final = frozenset(
    {
        *("from", "sender", "subject", "to", "cc", "bcc", "reply-to", "return-path", "delivered-to", "date"),
        *("message-id", "received", "received-spf", "authentication-results", "dkim-signature", "domainkey-status"),
        *("user-agent", "x-mailer", "list-id", "x-feedback-id", "x-csa-complaints"),
    }
)
"""Headers that Mailjet refuses the mail for (send-0011): it writes them itself, or has a property for them."""
_ITS_OWN: Final = re.compile(r"x-(?:mj|mailjet)-", re.IGNORECASE)


class Settings(HttpSettings):
    """Mailjet."""

    type: Literal["mailjet"] = "mailjet"
    api_key: ApiKey = Field(description="Mailjet → Account settings → API key management: the API key")
    secret_key: ApiKey = Field(description="the secret key beside it")
    sandbox: bool = Field(default=False, description="Mailjet checks each mail and sends none")


KINDS: Final[dict[str, type[SendingError]]] = {
    "mj-0001": Misconfigured,  # the key is suspended
    "mj-0002": Misconfigured,  # malformed
    "mj-0003": Misconfigured,  # something mandatory is missing
    "mj-0004": Misconfigured,  # of another type
    "mj-0005": Misconfigured,  # not an allowed value
    "mj-0006": Declined,  # too long a subject
    "mj-0007": Misconfigured,  # nothing in a list
    "mj-0008": Misconfigured,  # too much in a list: headers
    "mj-0011": Declined,  # too large
    "mj-0012": Misconfigured,  # an empty text
    "mj-0013": Declined,  # an address that is none; of `To` it is final
    "mj-0015": Misconfigured,  # wrong keys
    "send-0003": Declined,  # neither text nor HTML
    "send-0006": Misconfigured,  # the key may not set Sender
    "send-0007": Misconfigured,
    "send-0008": Misconfigured,  # the sender's address is not validated
    "send-0010": Misconfigured,
    "send-0011": Misconfigured,  # a forbidden header
    "send-0012": Misconfigured,
    "send-0015": Misconfigured,
    "send-0016": Misconfigured,
}
"""By `ErrorCode` (dev.mailjet.com/email/guides/send-api-v31#send-api-errors); others by their status."""


class Mailjet(HttpProvider):
    """Hands mails to Mailjet; our id is their `CustomID`, which comes back in its events."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        """Read what the settings say; nothing is dialled."""
        super().__init__(
            settings,
            context,
            host="https://api.mailjet.com",
            credentials={"Authorization": basic(settings.api_key.get_secret_value(), settings.secret_key)},
            secrets=[settings.api_key.get_secret_value(), settings.secret_key.get_secret_value()],
        )
        self._sandbox = {"SandboxMode": True} if settings.sandbox else {}

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_map(email)
        for name in headers:
            if name.lower() in _FORBIDDEN or _ITS_OWN.match(name):
                raise Misconfigured(f"Mailjet has no way to set the header {name}")
        message: dict[str, Any] = {
            "From": mailbox_object(email.sender, "Email", "Name"),
            "To": [{"Email": email.recipient}],
            "Subject": email.subject,
            "CustomID": email.id,
        }
        if email.reply_to:
            message["ReplyTo"] = mailbox_object(email.reply_to, "Email", "Name")
        parts = {"TextPart": email.text, "HTMLPart": email.html}
        message |= {part: content for part, content in parts.items() if content}
        if headers:  # Message-ID is not among them: Mailjet writes its own
            message["Headers"] = headers
        return json_request("/v3.1/send", {"Messages": [message], **self._sandbox})

    async def verify(self) -> str:
        """Ask for a sender, see `Verifiable`; dev.mailjet.com/email/reference/sender-addresses-and-domains/sender."""
        answer = await self.asked("/v3/REST/sender?Status=Active&Limit=1")
        count = answer.text("Count")
        if not count.isdecimal():
            raise answer.not_understood()
        if count == "0":  # no fault yet: the account may have a metasender, which is good for all its keys
            return "Mailjet takes the keys; they have no validated sender of their own"
        return "Mailjet takes the keys"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the `ErrorCode` of the message, or of the whole."""
        status = response.text("Messages", 0, "Status")
        if response.is_success and status == "success":
            identifier = response.text("Messages", 0, "To", 0, "MessageID")
            if self._sandbox:
                return Receipt("", "checked in the sandbox, and not sent")
            if identifier not in ("", "0"):
                return Receipt(identifier, status)
            raise response.not_understood()
        errors = [_error(response, "Messages", 0, "Errors", number) for number in range(_MOST_ERRORS)]
        found = [error for error in (*errors, _error(response)) if error is not None]
        if not found:
            raise response.not_understood() if response.is_success else self.refusal(response)
        # While something is ours to mend, nobody knows whether what is said of the recipient would stand.
        raise next((error for error in found if isinstance(error, Misconfigured)), found[0])


_MOST_ERRORS: Final = 10
"""Mailjet tells all at once; so many are looked at."""


def _error(answer: ApiResponse, *place: str | int) -> SendingError | None:
    code, words = answer.text(*place, "ErrorCode"), answer.text(*place, "ErrorMessage")
    if not code and not words:
        return None
    status, about = answer.text(*place, "StatusCode"), answer.text(*place, "ErrorRelatedTo", 0)
    kind = KINDS.get(code) or by_status(int(status) if status.isdecimal() else answer.status)
    if kind is Declined and about.startswith(("From", "ReplyTo", "Sender", "Headers")):
        kind = Misconfigured
    elif code == "mj-0013" and about.startswith("To"):
        kind = Rejected
    return answer.error(kind, f"{words} ({about})" if about and about not in words else words, code=code)


connect = Mailjet
