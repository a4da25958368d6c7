"""Takes a message's secrets out of a provider's words: they echo subjects, links and addresses."""

import re
from html import escape
from json import dumps
from typing import Final
from urllib.parse import quote

from mailroom.message import MASK, Email, Message

_LONGEST_WORDS: Final = 500
_MOST_HEARD: Final = 4000
"""Characters of a provider's words that are looked at: providers bound them, this bounds the work."""
_RUNS: Final = re.compile(r"[A-Za-z0-9]+")


def masked(words: str, message: Message, email: Email | None = None) -> str:
    """Return what a provider said, one line of at most 500 characters, without what only the reader may know."""
    if not words:
        return ""
    line = _one_line(words[:_MOST_HEARD])
    secrets = {message.recipient, *message.secrets()}
    if email is not None:
        secrets.update((email.recipient, email.subject))
    heard = line.casefold()
    suspects = [secret for secret in secrets if _may_be_in(heard, secret)]
    if suspects:
        for form in sorted({form for secret in suspects for form in _spellings(secret)}, key=len, reverse=True):
            line = re.sub(re.escape(form), MASK, line, flags=re.IGNORECASE)
    return line[:_LONGEST_WORDS]


def _one_line(text: str) -> str:
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.split())


def _may_be_in(heard: str, secret: str) -> bool:
    """Tell, quickly, whether some spelling of the secret may be in the words: each keeps its letters and digits."""
    if secret.isascii() and secret.isalnum():  # as most codes are: it has one spelling only
        return secret.casefold() in heard
    runs = _RUNS.findall(secret)
    return max(runs, key=len).casefold() in heard if runs else True


def _spellings(secret: str) -> set[str]:
    """Return the ways in which a secret comes back: as it is, in HTML, in a URL, in JSON."""
    line = _one_line(secret)
    forms = {line, escape(line), quote(secret, safe="", errors="replace"), _one_line(dumps(secret)[1:-1])}
    return forms - {""}
