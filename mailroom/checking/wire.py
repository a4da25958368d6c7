"""Checks 19 and 20: the finished message, read as the receiving server reads it."""

import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, Final

from mailroom.checking.mail import Complaint, Mail
from mailroom.checking.samples import INVITATION
from mailroom.message import CODE_TYPES

LONGEST_LINE: Final = 998
"""Octets, RFC 5322 §2.1.1."""

_ADVERTISING: Final = re.compile(r"(?:list-.*|precedence|feedback-id)\Z", re.IGNORECASE)


def parses_back(mail: Mail) -> Iterator[Complaint]:
    """Check 19."""
    remedy = "leave controls out of words and names; if they are, this is Mailroom's fault: tell us"
    email = mail.email
    # Only three headers are parsed by their grammar: the new policy spends 2 ms on them all.
    parsed = message_from_bytes(email.raw, policy=policy.compat32)
    sender, recipient, subject = (_header(parsed, name) for name in ("From", "To", "Subject"))
    senders = [(one.display_name, one.addr_spec) for one in getattr(sender, "addresses", ())]
    if senders != [(email.sender.name, email.sender.email)]:
        yield Complaint(19, "From does not read back as it was meant", remedy)
    if [one.addr_spec for one in getattr(recipient, "addresses", ())] != [email.recipient]:
        yield Complaint(19, "To does not read back as it was meant", remedy)
    if subject != email.subject:
        yield Complaint(19, "the subject does not read back as it was meant", remedy, word="subject")
    if parsed.defects or any(part.defects for part in parsed.walk()):
        yield Complaint(19, "the message has defects", remedy)
    if _bodies(parsed) != [_lines(email.text), _lines(email.html)]:
        yield Complaint(19, "text and HTML do not read back as they were meant", remedy)
    if max(map(len, email.raw.split(b"\r\n"))) > LONGEST_LINE:
        yield Complaint(19, f"a line of the message has more than {LONGEST_LINE} octets", remedy)
    if not email.raw.isascii():
        yield Complaint(19, "the message is not 7bit: it breaks its signature on some ways", remedy)


def _header(parsed: "Message[str, str]", name: str) -> Any:
    """Return a header that is there once, unfolded and decoded; else nothing."""
    values = parsed.get_all(name, [])
    return policy.default.header_factory(name, "".join(values[0].splitlines())) if len(values) == 1 else None


def _bodies(parsed: "Message[str, str]") -> list[list[str]]:
    parts = [part.get_payload(decode=True) for part in parsed.walk() if part.get_content_maintype() == "text"]
    return [_lines(part.decode(errors="replace")) for part in parts if isinstance(part, bytes)]


def _lines(text: str) -> list[str]:
    return text.rstrip("\r\n").splitlines()


def headers_fit(mail: Mail) -> Iterator[Complaint]:
    """Check 20."""
    email = mail.email
    domain = email.sender.email.rpartition("@")[2].lower()
    if domain not in mail.domains:
        remedy = f"send from {', '.join(sorted(mail.domains))}: DMARC fails for others"
        yield Complaint(20, f"From is of {domain}", remedy)
    inviter = mail.message.payload.get("inviter")
    if isinstance(inviter, dict) and email.sender.email == inviter.get("primaryEmail"):
        yield Complaint(20, "From is the inviter's own address", "send from yours: theirs is not yours to sign for")
    headers = {name.lower(): text for name, text in email.headers}
    if headers.get("auto-submitted") != "auto-generated":
        yield Complaint(20, "Auto-Submitted: auto-generated is missing", "without it out-of-office answers come back")
    is_asked_for = mail.kind in CODE_TYPES or mail.kind == INVITATION
    for name in (name for name in headers if is_asked_for and _ADVERTISING.match(name)):
        yield Complaint(20, f"a mail that was asked for says {name}", "leave it out: filters file it as advertising")
    if "list-unsubscribe" in headers and headers.get("list-unsubscribe-post") != "List-Unsubscribe=One-Click":
        remedy = "add List-Unsubscribe-Post: List-Unsubscribe=One-Click (RFC 8058)"
        yield Complaint(20, "List-Unsubscribe is not of one click", remedy)
