"""Mailjet: dev.mailjet.com/email/guides/send-api-v31."""

import re
from typing import Final, Literal

from pydantic import Field

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError
from mailroom.message import Email, Receipt
from mailroom.providers.base import ProviderContext
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider, json_request
from mailroom.providers.http.http_settings import ApiKey, HttpSettings
from mailroom.providers.http.mail_fields import basic, header_map, mailbox_object
from mailroom.providers.http.response import ApiResponse, by_status

_FORBIDDEN: Final = frozenset(
    {
        *("from", "sender", "subject", "to", "cc", "bcc", "reply-to", "return-path", "delivered-to", "date"),
        *("message-id", "received", "received-spf", "authentication-results", "dkim-signature", "domainkey-status"),
        *("user-agent", "x-mailer", "list-id", "x-feedback-id", "x-csa-complaints"),
    }
)
"""Headers for which Mailjet refuses the mail (send-0011): it writes them itself, or has a property for them."""
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
    "send-0008": Misconfigured,  # the sender's address is not validated
    "send-0011": Misconfigured,  # a forbidden header
    **dict.fromkeys(("send-0007", "send-0010", "send-0012", "send-0015", "send-0016"), Misconfigured),
}
"""By `ErrorCode` (dev.mailjet.com/email/guides/send-api-v31#send-api-errors); others by their status."""


class Mailjet(HttpProvider[Settings]):
    """Sends by Mailjet; our id is the mail's `CustomID`, which comes back in its events."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        key = settings.api_key.get_secret_value()
        super().__init__(
            settings,
            context,
            "https://api.mailjet.com",
            {"Authorization": basic(key, settings.secret_key)},
            secrets=[key, settings.secret_key.get_secret_value()],
        )

    def build_request(self, email: Email) -> ApiRequest:
        """Return the request for a mail."""
        headers = header_map(email)
        for name in headers:
            if name.lower() in _FORBIDDEN or _ITS_OWN.match(name):
                raise Misconfigured(f"Mailjet has no way to set the header {name}")
        message = {
            "From": mailbox_object(email.sender, "Email", "Name"),
            "To": [{"Email": email.recipient}],
            "Subject": email.subject,
            "CustomID": email.id,
            "ReplyTo": email.reply_to and mailbox_object(email.reply_to, "Email", "Name"),
            "TextPart": email.text or None,
            "HTMLPart": email.html or None,
            "Headers": headers or None,  # without Message-ID: Mailjet sets its own
        }
        given = {name: value for name, value in message.items() if value is not None}
        return json_request("/v3.1/send", {"Messages": [given], "SandboxMode": self.settings.sandbox or None})

    async def verify(self) -> str:
        """Count the senders, see `Verifiable`; dev.mailjet.com/email/reference/sender-addresses-and-domains/sender."""
        response = await self.query("/v3/REST/sender?Status=Active&Limit=1")
        count = response.text("Count")
        if not count.isdecimal():
            raise response.undocumented()
        if count == "0":  # not an error: the account may have a metasender, which all its keys may use
            return "Mailjet takes the keys; they have no validated sender of their own"
        return "Mailjet takes the keys"

    def parse_response(self, response: ApiResponse) -> Receipt:
        """Return the receipt, or raise by the `ErrorCode` of the message, or of the whole."""
        status = response.text("Messages", 0, "Status")
        if response.is_success and status == "success":
            identifier = response.text("Messages", 0, "To", 0, "MessageID")
            if self.settings.sandbox:
                return Receipt("", "checked in the sandbox, and not sent")
            if identifier not in ("", "0"):
                return Receipt(identifier, status)
            raise response.undocumented()
        raise _listed_error(response) or (response.undocumented() if response.is_success else response.error())


_MOST_ERRORS: Final = 10
"""Mailjet lists all errors of a mail; so many are read."""


def _listed_error(response: ApiResponse) -> SendingError | None:
    listed = [_error(response, "Messages", 0, "Errors", number) for number in range(_MOST_ERRORS)]
    errors = [error for error in (*listed, _error(response)) if error is not None]
    # While our configuration is wrong, what is said of the recipient cannot be relied on.
    return next((error for error in errors if isinstance(error, Misconfigured)), errors[0] if errors else None)


def _error(response: ApiResponse, *path: str | int) -> SendingError | None:
    code, message = response.text(*path, "ErrorCode"), response.text(*path, "ErrorMessage")
    if not code and not message:
        return None
    status, field = response.text(*path, "StatusCode"), response.text(*path, "ErrorRelatedTo", 0)
    kind = KINDS.get(code) or by_status(int(status) if status.isdecimal() else response.status)
    if kind is Declined and field.startswith(("From", "ReplyTo", "Sender", "Headers")):
        kind = Misconfigured
    elif code == "mj-0013" and field.startswith("To"):
        kind = Rejected
    text = f"{message} ({field})" if field and field not in message else message
    return response.error(kind, text, code=code, is_throttled=status == "429")


connect = Mailjet
