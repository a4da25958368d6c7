"""Checks 19 and 20: the serialized message, parsed as a receiving server does."""

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, Final

from mailroom.lint.rule import RenderedMail, Violation
from mailroom.logto import MESSAGE_TYPES

LONGEST_LINE: Final = 998
"""Octets, RFC 5322 §2.1.1."""

_BULK_HEADER: Final = re.compile(r"(?:list-.*|precedence|feedback-id)\Z", re.IGNORECASE)


def check_round_trip(mail: RenderedMail) -> Iterator[Violation]:
    """Check 19."""
    remedy = "remove control characters from translations and names; otherwise report a bug in Mailroom"
    email = mail.email
    # Only three headers are parsed fully: policy.default takes 2 ms for all.
    parsed = message_from_bytes(email.raw, policy=policy.compat32)
    sender, recipient, subject = (_parse_header(parsed, name) for name in ("From", "To", "Subject"))
    senders = [(one.display_name, one.addr_spec) for one in getattr(sender, "addresses", ())]
    if senders != [(email.sender.name, email.sender.email)]:
        yield Violation(19, "From does not parse back to the same value", remedy)
    if [one.addr_spec for one in getattr(recipient, "addresses", ())] != [email.recipient]:
        yield Violation(19, "To does not parse back to the same value", remedy)
    if subject != email.subject:
        yield Violation(19, "the subject does not parse back to the same value", remedy, translation="subject")
    if parsed.defects or any(part.defects for part in parsed.walk()):
        yield Violation(19, "the message has defects", remedy)
    parts = [email.text, email.html] if email.html else [email.text]
    if _decode_bodies(parsed) != list(map(_split_lines, parts)):
        yield Violation(19, "the texts do not parse back to the same values", remedy)
    if max(map(len, email.raw.split(b"\r\n"))) > LONGEST_LINE:
        yield Violation(19, f"a line of the message has more than {LONGEST_LINE} octets", remedy)
    if not email.raw.isascii():
        yield Violation(19, "the message is not 7bit: relays may convert it, which breaks its DKIM signature", remedy)


def _parse_header(parsed: "Message[str, str]", name: str) -> Any:
    """Return a header, unfolded and decoded; None unless it occurs once."""
    values = parsed.get_all(name, [])
    return policy.default.header_factory(name, "".join(values[0].splitlines())) if len(values) == 1 else None


def _decode_bodies(parsed: "Message[str, str]") -> list[list[str]]:
    parts = [part.get_payload(decode=True) for part in parsed.walk() if part.get_content_maintype() == "text"]
    return [_split_lines(part.decode(errors="replace")) for part in parts if isinstance(part, bytes)]


def _split_lines(text: str) -> list[str]:
    return text.rstrip("\r\n").splitlines()


def check_headers(mail: RenderedMail) -> Iterator[Violation]:
    """Check 20."""
    email = mail.email
    domain = email.sender.email.rpartition("@")[2].lower()
    if domain not in mail.domains:
        remedy = f"send from {', '.join(sorted(mail.domains))}: DMARC fails for others"
        yield Violation(20, f"the domain of From is {domain}", remedy)
    inviter = mail.message.payload.get("inviter")
    if isinstance(inviter, dict) and email.sender.email == inviter.get("primaryEmail"):
        remedy = "use your own address: you cannot sign for another domain"
        yield Violation(20, "From is the inviter's own address", remedy)
    headers = {name.lower(): text for name, text in email.headers}
    if headers.get("auto-submitted") != "auto-generated":
        remedy = "add it: without it out-of-office replies come back"
        yield Violation(20, "Auto-Submitted: auto-generated is missing", remedy)
    for name in filter(_BULK_HEADER.match, headers) if mail.kind in MESSAGE_TYPES else ():
        remedy = "remove it: filters classify such mails as advertising"
        yield Violation(20, f"a mail that the reader requested has the header {name}", remedy)
    if "list-unsubscribe" in headers and headers.get("list-unsubscribe-post") != "List-Unsubscribe=One-Click":
        remedy = "add List-Unsubscribe-Post: List-Unsubscribe=One-Click (RFC 8058)"
        yield Violation(20, "List-Unsubscribe lacks one-click", remedy)
