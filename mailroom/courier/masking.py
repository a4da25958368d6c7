"""Takes a message's secrets out of a provider's words: they echo subjects, links and addresses."""

import re
from html import escape
from json import dumps
from typing import Final
from urllib.parse import quote

from mailroom.message import MASK, Email, Message

_LONGEST_WORDS: Final = 500
_MOST_SECRETS: Final = 200
"""A 300 kB invitation may hold thousands of strings; the longest ones are looked for."""


def masked(words: str, message: Message, email: Email | None = None) -> str:
    """Return what a provider said, one line of at most 500 characters, without what only the reader may know."""
    line = _one_line(words)
    secrets = set(message.secrets())
    secrets.add(message.recipient)
    if email is not None:
        secrets.update((email.recipient, email.subject))
    forms = {form for secret in secrets for form in _spellings(secret) if len(form) <= len(line)}
    for form in sorted(forms, key=len, reverse=True)[: _MOST_SECRETS * 4]:
        line = re.sub(re.escape(form), MASK, line, flags=re.IGNORECASE)
    return line[:_LONGEST_WORDS]


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _spellings(secret: str) -> set[str]:
    """Return the ways in which a secret comes back: as it is, in HTML, in a URL, in JSON."""
    line = _one_line(secret)
    forms = {line, escape(line), quote(secret, safe="", errors="replace"), _one_line(dumps(secret)[1:-1])}
    return forms - {""}
