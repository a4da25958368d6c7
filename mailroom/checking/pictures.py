"""Checks 9 and 10: pictures that mail clients show, and that say what they are where they are not shown."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from mailroom.checking.mail import Complaint, Mail, excerpt

_UNSHOWN: Final = re.compile(r"\.(svgz?|webp|avif|heic)\Z", re.IGNORECASE)
_IN_CSS: Final = re.compile(r"url\(\s*['\"]?([^'\")]*)", re.IGNORECASE)


def have_alt_and_address(mail: Mail) -> Iterator[Complaint]:
    """Check 9."""
    for picture in mail.page.all("img"):
        attributes = picture.etree_element.attrib
        if "alt" not in attributes:
            remedy = 'write alt="…", or alt="" for a picture that says nothing'
            yield Complaint(9, "a picture has no alt text", remedy, html=mail.page.tag_of(picture))
        source = attributes.get("src", "").strip()
        if _is_data(source):
            continue  # check 10's
        parts = urlsplit(source)
        if parts.scheme.lower() != "https" or not parts.netloc:
            problem = f"a picture's address is {excerpt(source, 60) or 'empty'}"
            remedy = "give its whole https address: mails have no folder of their own"
            yield Complaint(9, problem, remedy, html=mail.page.tag_of(picture))


def are_of_a_kind_that_is_shown(mail: Mail) -> Iterator[Complaint]:
    """Check 10."""
    remedy = "use a PNG or JPEG at an https address: Gmail and Outlook show nothing else"
    for element in mail.page.elements:
        attributes = element.etree_element.attrib
        addresses = [attributes.get("src", ""), attributes.get("background", "")]
        addresses += _IN_CSS.findall(attributes.get("style", ""))
        addresses += [part.split()[0] for part in attributes.get("srcset", "").split(",") if part.split()]
        if element.local_name == "svg":
            yield Complaint(10, "there is an SVG drawing", remedy, html=mail.page.tag_of(element))
        for address in filter(_is_unshown, map(str.strip, addresses)):
            problem = f"mail clients do not show {excerpt(address, 60)}"
            yield Complaint(10, problem, remedy, html=mail.page.tag_of(element))
    for sheet in mail.page.style_sheets:
        for address in filter(_is_unshown, _IN_CSS.findall(sheet)):
            yield Complaint(
                10, f"mail clients do not show {excerpt(address, 60)}", remedy, html=mail.page.line_with(address)
            )


def _is_unshown(address: str) -> bool:
    return _is_data(address) or _UNSHOWN.search(urlsplit(address).path) is not None


def _is_data(address: str) -> bool:
    return address[:5].lower() == "data:"
