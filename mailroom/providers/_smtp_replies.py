"""One reply of an SMTP server, and the error that it stands for; `_refusals` holds the table."""

import re
from typing import Final

import msgspec

from mailroom.errors import SendingError, Unavailable
from mailroom.providers._refusals import Stage, classify
from mailroom.providers._words import bounded

__all__ = ["Reply", "Stage", "refusal"]


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
        """The first enhanced status code (RFC 3463), `5.1.1`, or nothing."""
        found = (match[1] for line in self.lines if (match := _ENHANCED.match(line)))
        return next(found, "")

    @property
    def full_code(self) -> str:
        """Both codes: `550 5.1.1`."""
        return f"{self.code} {self.enhanced}".rstrip()

    @property
    def words(self) -> str:
        """The whole reply on one line, printable, at most 500 characters; codes that lines repeat are said once."""
        enhanced = rf"(?:#?{re.escape(self.enhanced)}(?:[\s:]+|\Z))?" if self.enhanced else ""
        repeated = re.compile(rf"\s*(?:{self.code}(?:[\s-]+|\Z))?{enhanced}")
        texts = (repeated.sub("", line, count=1) for line in self.lines)
        return bounded(" ".join((self.full_code, *texts)))


_POSITIVE: Final = range(200, 300)
_ENHANCED: Final = re.compile(r"(?:[245]\d\d[\s-]+)?#?([245]\.\d{1,3}\.\d{1,3})(?:[\s:]|\Z)")


def refusal(stage: Stage, reply: Reply) -> SendingError:
    """Return the error that a reply stands for when it is not the expected one."""
    words = reply.words
    row = classify(stage, reply.code, reply.enhanced, words)
    if issubclass(row.kind, Unavailable):
        return row.kind(words, code=reply.full_code, hint=row.hint, retry_after=row.wait_seconds)
    return row.kind(words, code=reply.full_code, hint=row.hint)
