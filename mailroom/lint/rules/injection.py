"""Check 4: values of a hostile payload must be rendered as text."""

from collections.abc import Iterator

from mailroom.lint.html import text_of
from mailroom.lint.rule import RenderedMail, Violation
from mailroom.lint.samples import PROBE, Sample

_REMEDY = "print values without |safe, as {{ name }}, and only in quoted attributes; use {{ link }} for links"


def check_injection(mail: RenderedMail) -> Iterator[Violation]:
    """Check 4."""
    if mail.sample is not Sample.HOSTILE:
        return
    page = mail.page
    for element in page.elements:
        attributes = element.etree_element.attrib
        if element.local_name == PROBE:
            yield Violation(4, "a value of the payload becomes HTML", _REMEDY, html=page.line_with(f"<{PROBE}"))
        elif any(PROBE in name for name in attributes):
            yield Violation(4, "a value of the payload becomes an attribute", _REMEDY, html=page.tag_of(element))
        elif PROBE in attributes.get("style", "") or (element.local_name == "style" and PROBE in text_of(element)):
            yield Violation(4, "a value of the payload becomes a style", _REMEDY, html=page.tag_of(element))
        elif any(name.startswith("on") and PROBE in value for name, value in attributes.items()):
            yield Violation(4, "a value of the payload becomes a script", _REMEDY, html=page.tag_of(element))
        elif any(_is_script_url(attributes.get(name, "")) for name in ("href", "src", "background", "action")):
            yield Violation(
                4, "a value of the payload becomes a link or an image's URL", _REMEDY, html=page.tag_of(element)
            )
    if any(character in mail.email.subject for character in "\r\n\0"):
        yield Violation(4, "a value of the payload breaks the subject's line", _REMEDY, word="subject")


def _is_script_url(address: str) -> bool:
    return address.strip().lower().startswith("javascript:")
