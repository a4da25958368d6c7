"""Ready-made `Email` objects, their bytes by the standard library."""

from email.message import EmailMessage
from email.policy import SMTP

from msgspec.structs import replace

from mailroom.message import Address, Email

ID = "0198f2d4-7f00-7000-8000-000000000001"
SENDER = Address("no-reply@acme.example", "Acme")
RECIPIENT = "ada@reader.example"
CODE = "482913"
VARIABLES = {
    "code": CODE,
    "locale": "de",
    "uiLocales": "de-AT de",
    "application": {"name": "Ærø <b>& Søn", "branding": {"logoUrl": "https://acme.example/logo.png"}},
    "organization": None,
}


def email(
    recipient: str = RECIPIENT,
    *,
    sender: Address = SENDER,
    subject: str = "Your code",
    text: str = f"Your code is {CODE}.\n",
    html: str = f"<p>Your code is <b>{CODE}</b>.</p>\n",
    identifier: str = ID,
    raw: bytes | None = None,
) -> Email:
    """Return a mail; `raw` overrules the bytes."""
    message_id = f"<{identifier}@acme.example>"
    return Email(
        id=identifier,
        message_id=message_id,
        sender=sender,
        recipient=recipient,
        reply_to=None,
        subject=subject,
        html=html,
        text=text,
        headers=(("Auto-Submitted", "auto-generated"),),
        language="en",
        template="SignIn",
        raw=raw if raw is not None else _raw(sender, recipient, subject, (text, html), message_id),
    )


def templated(template: str, mail: Email | None = None) -> Email:
    """Return the mail by a template that is kept at the provider."""
    return replace(mail or email(), template_at_provider=template, variables=VARIABLES)


def _raw(sender: Address, recipient: str, subject: str, parts: tuple[str, str], message_id: str) -> bytes:
    text, html = parts
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["From"] = f'"{sender.name}" <{sender.email}>' if sender.email.isascii() else "no-reply@acme.example"
    message["To"] = recipient if recipient.isascii() else "undisclosed-recipients:;"
    message["Subject"] = subject
    message["Date"] = "Sat, 21 Nov 2026 12:00:00 +0000"
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="base64")
    message.set_boundary("boundary-of-the-test")
    return message.as_bytes()
