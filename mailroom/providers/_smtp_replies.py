"""What an SMTP server's reply means for us: a table to be read from the top; the first row that fits decides."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers._words import bounded


class Stage(StrEnum):
    """What the server was replying to."""

    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    """The mail itself, up to its final dot."""


class Reply(msgspec.Struct, frozen=True):
    """One reply of an SMTP server (RFC 5321 §4.2), its lines without their codes."""

    code: int
    lines: tuple[str, ...] = ()

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out."""
        return self.code in _POSITIVE

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), `5.1.1`, or nothing."""
        found = _ENHANCED.match(self.lines[0]) if self.lines else None
        return found[1] if found else ""

    @property
    def full_code(self) -> str:
        """Both codes: `550 5.1.1`."""
        return f"{self.code} {self.enhanced}".rstrip()

    @property
    def words(self) -> str:
        """The whole reply on one line, printable, at most 500 characters; what each line repeats is said once."""
        enhanced = self.enhanced
        texts = [line.removeprefix(enhanced).strip() for line in self.lines]
        return bounded(" ".join((str(self.code), enhanced, *texts) if enhanced else (str(self.code), *texts)))


_POSITIVE: Final = range(200, 300)
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|\Z)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: every condition that is given must hold."""

    codes: str
    """Digits, `.` for any: `5..`, `535`."""
    kind: type[SendingError]
    stages: frozenset[Stage] = frozenset(Stage)
    enhanced: str = ""
    words: re.Pattern[str] | None = None

    def fits(self, stage: Stage, reply: Reply) -> bool:
        """Tell whether this row speaks of that reply."""
        return (
            stage in self.stages
            and all(wanted in (".", digit) for wanted, digit in zip(self.codes, str(reply.code), strict=True))
            and (not self.enhanced or self.enhanced == reply.enhanced)
            and (self.words is None or self.words.search(reply.words) is not None)
        )


def _any_of(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_BEFORE_MAIL: Final = frozenset({Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH})
_MAIL: Final = frozenset({Stage.MAIL})
_LATER: Final = frozenset({Stage.RCPT, Stage.DATA, Stage.CONTENT})

_OURS: Final = _any_of(
    r"relay(ing)? (access )?(denied|not permitted|prohibited)|unable to relay|not permitted to relay",
    r"sender address rejected|client host rejected|not owned by user",  # Postfix says so at RCPT
    r"address(es)? (is|are) not verified",  # SES, after the content
    r"sending (is |has been )?(paused|suspended)",  # SES
    r"verified sender identity",  # SendGrid, after the content
    r"permissions? to send as|SendAsDenied",  # Microsoft 365, after the content
    r"not a sender signature",  # Postmark
    r"is not allowed to send",  # Mailgun: the domain is unverified or disabled
)
"""A refusal of the sender that comes late, for many servers judge it only when they know the recipient."""

RULES: Final = (
    # the connection ends, whatever was asked (RFC 5321 §3.8)
    Rule("421", Unavailable),
    # vendors that mean something else than the code says
    Rule("436", Misconfigured),  # Aliyun: MAIL FROM is not the login; permanent although 4xx
    Rule("559", Rejected),  # Aliyun: the address is on its suppression list
    Rule("563", Rejected),  # Aliyun: likewise
    Rule("550", Unavailable, enhanced="5.4.5"),  # Gmail: daily limit; it is lifted after a day
    Rule("451", Misconfigured, words=_any_of(r"credits? exceeded")),  # SendGrid: no credit
    # credentials (RFC 4954 §6): 432 and 534 want another password or mechanism, 454 is temporary and not here
    Rule("432", Misconfigured),
    Rule("530", Misconfigured),
    Rule("534", Misconfigured),
    Rule("535", Misconfigured),
    Rule("538", Misconfigured),
    # this mail is too big, whoever sends it (RFC 1870); mailbox full for good
    Rule("552", Rejected, stages=_MAIL | _LATER),
    # before a mail was mentioned, a permanent refusal can only be meant for us
    Rule("5..", Misconfigured, stages=_BEFORE_MAIL),
    # the sender
    Rule("5..", Misconfigured, stages=_MAIL),
    Rule("5..", Misconfigured, stages=_LATER, words=_OURS),
    # what is left is as RFC 5321 §4.2.1 has it
    Rule("5..", Rejected),
    Rule("4..", Unavailable),
)


def refusal(stage: Stage, reply: Reply) -> SendingError:
    """Return the error that a reply stands for when it is not the one that was hoped for.

    A positive reply out of place is a server that lost its way: Unavailable.
    """
    kind = next((rule.kind for rule in RULES if rule.fits(stage, reply)), Unavailable)
    return kind(reply.words, code=reply.full_code)
