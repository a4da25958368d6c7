"""Checks 5, 6, 17 and 18: subject, preheader, text part and code."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.rules.contrast import is_hidden
from mailroom.rendering.sanitize import code
from mailroom.text import bounded

LONGEST_SUBJECT: Final = 60
PREHEADER: Final = (40, 130)
"""Minimum and maximum columns (a Chinese character takes two)."""

_FILLER: Final = re.compile(r"[\s\u00ad\u034f\u2007\u200b-\u200d\ufeff]*")
"""Invisible characters that fill the inbox line behind a preheader."""
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def check_subject(mail: RenderedMail) -> Iterator[Violation]:
    """Check 5."""
    subject = mail.email.subject
    # The renderer replaces an empty subject by the app name, so the translation is tested too.
    if not subject.strip() or not mail.mail_sources.translations.get("subject", subject).strip():
        remedy = "add a text for `subject`"
        yield Violation(5, "the subject is empty", remedy, translation="subject")
    elif _CONTROL.search(subject):
        remedy = "remove line breaks and control characters"
        yield Violation(5, "the subject is more than one line", remedy, translation="subject")
    elif len(subject) > LONGEST_SUBJECT:
        problem = f"the subject has {len(subject)} characters: {bounded(subject, 70)}"
        remedy = f"shorten it: phones show {LONGEST_SUBJECT} at maximum"
        yield Violation(5, problem, remedy, translation="subject", is_warning=True)


def check_text_part(mail: RenderedMail) -> Iterator[Violation]:
    """Check 6."""
    text = mail.email.text
    if not text.strip():
        remedy = "add text.jinja: some readers see only the text part"
        yield Violation(6, "the text part is empty", remedy, logto_remedy="write a text into the file")
        return
    payload_link = mail.message.payload.get("link")
    for element, address in mail.quick_page.links:
        shown = address.partition("?")[0].removeprefix("mailto:") if address.startswith("mailto:") else address
        if address.startswith(("https:", "mailto:")) and shown not in text and address != payload_link:
            problem = f"the HTML links to {bounded(shown, 60)}, the text does not contain it"
            line = mail.quick_page.tag_of(element)
            logto_remedy = "write the URL into the .txt file too"
            yield Violation(6, problem, "print the URL in text.jinja too", html=line, logto_remedy=logto_remedy)


def preheader(mail: RenderedMail) -> str:
    """Return the hidden text at the start of the body, which the inbox shows beside the subject."""
    first = next(((element, text) for element, text in mail.quick_page.texts() if not _FILLER.fullmatch(text)), None)
    return " ".join(first[1].split()) if first and is_hidden(first[0]) else ""


def check_preheader(mail: RenderedMail) -> Iterator[Violation]:
    """Check 17."""
    text = preheader(mail)
    if not text:
        hidden = '<div style="display:none;max-height:0;overflow:hidden">%s</div>'
        problem = "there is no preheader: the inbox shows the first text of the body"
        remedy, logto_remedy = (f"begin the body with {hidden % text}" for text in ("{{ words.preheader }}", "…"))
        yield Violation(17, problem, remedy, logto_remedy=logto_remedy)
        return
    columns = width(text)
    minimum, maximum = PREHEADER
    if not minimum <= columns <= maximum:
        problem = f"the preheader is {columns} columns wide: {bounded(text, 60)}"
        yield Violation(17, problem, f"use {minimum} to {maximum} columns", translation="preheader", is_warning=True)


def check_code_unbroken(mail: RenderedMail) -> Iterator[Violation]:
    """Check 18."""
    secret = code(mail.message.payload.get("code"))
    if not secret:
        return
    remedy = "print {{ code }} in one piece, and use letter-spacing (CSS) between digits, so that it can be copied"
    runs = list(mail.quick_page.texts())
    if not any(secret in text for _, text in runs) and secret in _without_spaces(mail.quick_page.body_text):
        split = next((element for element, text in runs if secret.startswith(text.strip()) and text.strip()), None)
        line = mail.quick_page.tag_of(split) if split is not None else ""
        yield Violation(18, "the code is split in the HTML", remedy, html=line)
    if secret not in mail.email.text and secret in _without_spaces(mail.email.text):
        yield Violation(18, "the code is split in the text", remedy)
    if secret not in mail.email.subject and secret in _without_spaces(mail.email.subject):
        yield Violation(18, "the code is split in the subject", remedy, translation="subject")


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def width(text: str) -> int:
    """Return the width of a text in columns."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)
