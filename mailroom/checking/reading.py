"""Checks 5, 6, 17 and 18: what a reader sees in the inbox, as text, and of the code."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from mailroom.checking.contrast import is_hidden
from mailroom.checking.mail import Complaint, Mail, excerpt
from mailroom.rendering.inert import code

LONGEST_SUBJECT: Final = 60
PREHEADER: Final = (40, 130)
"""Columns, so that a Chinese character counts for two: what inboxes show beside a subject."""

_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")


def subject_fits(mail: Mail) -> Iterator[Complaint]:
    """Check 5."""
    subject = mail.email.subject
    # Where the words give none, the writer sends the app's name.
    if not subject.strip() or not mail.ingredients.words.get("subject", subject).strip():
        yield Complaint(5, "the subject is empty", "give `subject` a text", word="subject")
    elif _CONTROL.search(subject):
        yield Complaint(5, "the subject is more than one line", "leave line breaks and controls out", word="subject")
    elif len(subject) > LONGEST_SUBJECT:
        problem = f"the subject has {len(subject)} characters: {excerpt(subject, 70)}"
        yield Complaint(
            5, problem, f"phones show {LONGEST_SUBJECT} at most; say it shorter", word="subject", is_warning=True
        )


def text_says_the_same(mail: Mail) -> Iterator[Complaint]:
    """Check 6."""
    text = mail.email.text
    if not text.strip():
        yield Complaint(6, "the text part is empty", "write text.jinja: some readers see nothing else")
        return
    payload_link = mail.message.payload.get("link")
    for element, address in mail.page.links:
        shown = address.partition("?")[0].removeprefix("mailto:") if address.startswith("mailto:") else address
        if address.startswith(("https:", "mailto:")) and shown not in text and address != payload_link:
            problem = f"the HTML leads to {excerpt(shown, 60)}, the text does not name it"
            yield Complaint(6, problem, "print the address in text.jinja too", html=mail.page.tag_of(element))


def preheader(mail: Mail) -> str:
    """Return the hidden text with which the body begins; the inbox shows it beside the subject."""
    found = next(((element, text) for element, text in mail.page.texts() if text.strip()), None)
    return " ".join(found[1].split()) if found and is_hidden(found[0]) else ""


def preheader_is_there(mail: Mail) -> Iterator[Complaint]:
    """Check 17."""
    text = preheader(mail)
    if not text:
        remedy = (
            'begin the body with <div style="display:none;max-height:0;overflow:hidden">{{ words.preheader }}</div>'
        )
        yield Complaint(17, "there is no preheader: the inbox shows whatever comes first", remedy)
        return
    columns = width(text)
    least, most = PREHEADER
    if not least <= columns <= most:
        problem = f"the preheader is {columns} columns wide: {excerpt(text, 60)}"
        yield Complaint(17, problem, f"make it {least} to {most}", word="preheader", is_warning=True)


def code_is_one_run(mail: Mail) -> Iterator[Complaint]:
    """Check 18."""
    secret = code(mail.message.payload.get("code"))
    if not secret:
        return
    remedy = (
        "print {{ code }} as it is, and space it with CSS (letter-spacing): phones and readers copy one run of text"
    )
    runs = list(mail.page.texts())
    if not any(secret in text for _, text in runs) and secret in _squeezed(mail.page.body_text):
        split = next((element for element, text in runs if secret.startswith(text.strip()) and text.strip()), None)
        line = mail.page.tag_of(split) if split is not None else ""
        yield Complaint(18, "the code is in pieces in the HTML", remedy, html=line)
    if secret not in mail.email.text and secret in _squeezed(mail.email.text):
        yield Complaint(18, "the code is in pieces in the text", remedy)
    if secret not in mail.email.subject and secret in _squeezed(mail.email.subject):
        yield Complaint(18, "the code is in pieces in the subject", remedy, word="subject")


def _squeezed(text: str) -> str:
    return "".join(text.split())


def width(text: str) -> int:
    """Return how many columns a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)
