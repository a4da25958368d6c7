"""Check 4: values of a hostile payload must be rendered as text."""

from collections.abc import Iterator

from cssselect2 import ElementWrapper

from mailroom.lint.html import text_of
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import PROBE, Sample

_LOGTO_REMEDY = "remove the key from `raw`, and put placeholders only into text and quoted attributes"
_REMEDY = "print values without |safe, as {{ name }}, and only in quoted attributes; use {{ link }} for links"


def check_injection(mail: RenderedMail) -> Iterator[Violation]:
    """Check 4."""
    if mail.sample is not Sample.HOSTILE:
        return
    for element in mail.page.elements:
        if result := _find_injection(element):
            problem = f"a value of the payload becomes {result}"
            yield Violation(4, problem, _REMEDY, html=mail.page.tag_of(element), logto_remedy=_LOGTO_REMEDY)
    if any(character in mail.email.subject for character in "\r\n\0"):
        yield Violation(4, "a value of the payload breaks the subject's line", _REMEDY, translation="subject")


def _find_injection(element: ElementWrapper) -> str:
    """Return what a value of the payload became; empty if it is text."""
    attributes = element.etree_element.attrib
    if element.local_name == PROBE:
        return "HTML"
    if any(PROBE in name for name in attributes):
        return "an attribute"
    if PROBE in attributes.get("style", "") or (element.local_name == "style" and PROBE in text_of(element)):
        return "a style"
    if any(name.startswith("on") and PROBE in value for name, value in attributes.items()):
        return "a script"
    if any(_is_script_url(attributes.get(name, "")) for name in ("href", "src", "background", "action")):
        return "a link or an image's URL"
    return ""


def _is_script_url(address: str) -> bool:
    return address.strip().lower().startswith("javascript:")
